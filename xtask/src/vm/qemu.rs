//! Runs QEMU: copies the output of the command, and returns its exit code or why the VM died.
//!
//! The output of the command and the kernel's log use different devices, so they are not mixed.

use std::{
    fs,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::config::Vm;
use crate::{apt, process, workspace};

const PROGRAM: &str = "qemu-system-x86_64";

/// Number of log lines that are shown if the VM dies.
const LOG_LINES: usize = 30;

/// Installs QEMU if it is missing.
pub(crate) fn ensure_installed() -> Result<()> {
    if process::find_program(PROGRAM).is_none() {
        apt::install(&["qemu-system-x86"], "the test VM")?;
    }
    Ok(())
}

/// Runs the VM's command to its end and returns its exit code.
pub(crate) fn run(vm: &Vm, kernel: &Path, initramfs: &[u8], output: &mut dyn Write) -> Result<u8> {
    let files = RunFiles::create(initramfs)?;
    let mut qemu = qemu_command(vm, kernel, &files);
    qemu.args(["-device", "virtserialport,chardev=out,nr=1"])
        // An open pipe without data: at the end of its input, QEMU closes the host side of the port, and the guest blocks.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = qemu
        .stderr(files.create_emulator_log()?)
        .spawn()
        .with_context(|| format!("cannot run {PROGRAM}"))?;
    if let Err(err) = copy_output(&mut child, vm, output) {
        child.kill()?;
        child.wait()?;
        return Err(files.add_logs(err));
    }
    child.wait()?;
    files.read_exit_code()
}

/// Runs the VM on this terminal.
pub(crate) fn shell(vm: &Vm, kernel: &Path, initramfs: &[u8]) -> Result<u8> {
    let files = RunFiles::create(initramfs)?;
    let mut qemu = qemu_command(vm, kernel, &files);
    qemu.args(["-device", "virtconsole,chardev=out,nr=0"]);
    process::status(qemu.stderr(files.create_emulator_log()?))?;
    files.read_exit_code()
}

/// Returns the QEMU command without a device for the output of the VM's command.
fn qemu_command(vm: &Vm, kernel: &Path, files: &RunFiles) -> Command {
    // The kernel kills QEMU when xtask ends for any reason.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", PROGRAM])
        .args(["-nodefaults", "-display", "none", "-no-reboot"])
        // One thread for all CPUs. With one thread per CPU, QEMU's nested paging sometimes hangs or shuts a guest down.
        .args(["-accel", "tcg,thread=single", "-cpu", "EPYC-Rome,svm=on"])
        .args(["-smp", &vm.cpus.to_string()])
        .args(["-m", &vm.memory_mib.to_string()])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(files.initramfs())
        // A panic or an oops ends the VM at once, because -no-reboot makes a reboot an exit.
        .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic"])
        .arg("-serial")
        .arg(format!("file:{}", files.console().display()))
        .args(["-device", "virtio-serial-pci"])
        .args(["-chardev", "stdio,id=out,signal=off"])
        .arg("-chardev")
        .arg(format!("file,id=status,path={}", files.status().display()))
        .args(["-device", "virtserialport,chardev=status,nr=2"]);
    if vm.counts_instructions {
        // Every instruction takes 1 ns, and idle time is skipped.
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    qemu
}

/// Copies the output until the VM is off.
///
/// # Errors
/// If a time limit of the VM passes, or the output cannot be written.
fn copy_output(child: &mut Child, vm: &Vm, output: &mut dyn Write) -> Result<()> {
    let deadline = Instant::now() + vm.timeout;
    let mut pipe = child.stdout.take().context("QEMU's output is piped")?;
    let (sender, receiver) = mpsc::channel();
    // A read has no timeout, so another thread reads.
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(vm.max_silence)) {
            Ok(chunk) => {
                output.write_all(&chunk)?;
                output.flush()?;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if left > vm.max_silence => {
                bail!(
                    "the VM printed nothing for {:?} and was stopped",
                    vm.max_silence
                )
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the VM was stopped at the time limit of {:?}", vm.timeout)
            }
        }
    }
}

/// The files of one run, in a separate folder.
#[derive(Debug)]
struct RunFiles {
    dir: PathBuf,
}

impl RunFiles {
    fn create(initramfs: &[u8]) -> Result<Self> {
        // Several VMs may run at the same time.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let (process, run) = (std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let dir = workspace::target(&format!("vm/run-{process}-{run}"));
        fs::create_dir_all(&dir)?;
        let files = Self { dir };
        fs::write(files.initramfs(), initramfs)?;
        Ok(files)
    }

    fn initramfs(&self) -> PathBuf {
        self.dir.join("initramfs.cpio")
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn status(&self) -> PathBuf {
        self.dir.join("status")
    }

    /// Path of the log with QEMU's own messages.
    fn emulator_log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    fn create_emulator_log(&self) -> Result<fs::File> {
        Ok(fs::File::create(self.emulator_log())?)
    }

    /// Returns the exit code that the init script has written.
    ///
    /// # Errors
    /// If the script has written none, because the VM died.
    fn read_exit_code(self) -> Result<u8> {
        let status = fs::read_to_string(self.status()).unwrap_or_default();
        match status.trim().parse() {
            Ok(code) => {
                fs::remove_dir_all(&self.dir)?;
                Ok(code)
            }
            Err(_) => Err(self.add_logs(anyhow!("the VM stopped before its command ended"))),
        }
    }

    /// Adds the end of the logs to an error. The files are kept.
    fn add_logs(&self, err: anyhow::Error) -> anyhow::Error {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let emulator = fs::read_to_string(self.emulator_log()).unwrap_or_default();
        let mut log: Vec<_> = emulator
            .lines()
            .filter(|line| !line.contains("TCG doesn't support requested feature"))
            .collect();
        log.extend(console.lines().map(str::trim_end));
        let message = match find_panic(&console) {
            Some(panic) => format!("the kernel of the VM panicked: {panic}"),
            None => err.to_string(),
        };
        let end = log[log.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow!("{message} (logs: {})\n{end}", self.dir.display())
    }
}

fn find_panic(console: &str) -> Option<&str> {
    let start = console.find("Kernel panic - ")?;
    console[start..].lines().next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_in_the_console() {
        let console = "[    1.0] fine\r\n[    2.0] Kernel panic - not syncing: Attempted to kill init!\r\n[    2.1] CPU: 0\r\n";
        assert_eq!(
            find_panic(console),
            Some("Kernel panic - not syncing: Attempted to kill init!")
        );
        assert_eq!(find_panic("all is well"), None);
    }
}
