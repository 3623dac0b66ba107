//! The process that lists VMs. Each test runs this program again as a collector with such a process, because only a process
//! with one thread can start one.

#[path = "common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use caps::{CapSet, Capability};
use kvm_collector::host::{
    vm,
    vm_lister::{Listing, VmLister},
};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use temporary_folder::TemporaryFolder;

/// First argument of the program as a collector. The second one is its `/proc`.
const COLLECTOR: &str = "--as-collector";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    if let [_, mode, proc] = args.as_slice()
        && mode == COLLECTOR
    {
        return match run_collector(Path::new(proc)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let tests = vec![
        Trial::test("the_list_of_this_host_is_the_same", check_host),
        Trial::test("the_list_of_a_fake_host_is_the_same", check_fake_host),
        Trial::test("it_keeps_only_what_it_needs", check_confinement),
        Trial::test("it_ends_with_the_collector", check_end),
        Trial::test("it_ignores_signals_of_the_terminal", check_signals),
        Trial::test("its_end_is_an_error", check_killed),
        Trial::test("a_collector_with_threads_cannot_start_it", check_threads),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// Starts the process, prints its id, and answers lines of stdin: `list` prints both lists, or the error.
fn run_collector(proc: &Path) -> std::io::Result<()> {
    // A file that is not closed at exec, and a VM where the host can create one.
    let _file = File::open("/dev/null")?;
    let vm = kvm_ioctls::Kvm::new().and_then(|kvm| kvm.create_vm());
    let mut lister = VmLister::start(proc, Listing::Separate)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", lister.pid().unwrap_or(0), vm.is_ok())?;
    for line in std::io::stdin().lock().lines() {
        if line? == "list" {
            match lister.list() {
                Ok(list) => {
                    let expected = vm::list(proc)?;
                    writeln!(out, "{}", serde_json::to_string(&list)?)?;
                    writeln!(out, "{}", serde_json::to_string(&expected)?)?;
                }
                Err(error) => writeln!(out, "{error}")?,
            }
        }
    }
    Ok(())
}

/// A running collector and its process that lists VMs.
struct Collector {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    lister: u32,
    has_vm: bool,
}

impl Collector {
    fn start(proc: &Path) -> Result<Self, Failed> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([Path::new(COLLECTOR), proc])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no stdout")?;
        let mut collector = Self {
            process,
            output: BufReader::new(stdout),
            lister: 0,
            has_vm: false,
        };
        let line = collector.read_line()?;
        let (pid, has_vm) = line.split_once(' ').ok_or("no process id")?;
        collector.lister = pid.parse()?;
        collector.has_vm = has_vm == "true";
        Ok(collector)
    }

    fn read_line(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Requests a list. Returns the first line of the answer.
    fn list(&mut self) -> Result<String, Failed> {
        let stdin = self.process.stdin.as_mut().ok_or("no stdin")?;
        stdin.write_all(b"list\n")?;
        self.read_line()
    }

    fn lister_dir(&self) -> PathBuf {
        Path::new("/proc").join(self.lister.to_string())
    }

    fn kill_lister(&self, signal: Signal) -> Result<(), Failed> {
        let pid = Pid::from_raw(i32::try_from(self.lister)?).ok_or("not a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Returns whether the process that lists VMs has ended, within some seconds.
    fn has_lister_ended(&self) -> bool {
        let stat = self.lister_dir().join("stat");
        let begin = Instant::now();
        loop {
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            // A zombie has ended as well; init waits for it.
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            if begin.elapsed() > Duration::from_secs(10) {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ensure(holds: bool, text: &str) -> Result<(), Failed> {
    match holds {
        true => Ok(()),
        false => Err(text.into()),
    }
}

fn check_host() -> Result<(), Failed> {
    let mut collector = Collector::start(Path::new("/proc"))?;
    // Other processes start and end meanwhile.
    for _ in 0..20 {
        let list = collector.list()?;
        let expected = collector.read_line()?;
        let vms: vm::VmList = serde_json::from_str(&list)?;
        let own = collector.process.id();
        if vms.vms.iter().any(|vm| vm.tgid == own) == collector.has_vm && list == expected {
            return Ok(());
        }
    }
    Err("the lists differ".into())
}

/// Creates a `/proc` with one VM.
fn fake_proc(folder: &TemporaryFolder) -> Result<PathBuf, Failed> {
    let proc = folder.file("proc");
    let file = |path: &str, content: &str| {
        let path = proc.join(path);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        Ok::<_, Failed>(fs::write(path, content)?)
    };
    file("9/comm", "qemu-system-x86\n")?;
    file(
        "9/cmdline",
        "qemu-system-x86_64\0-name\0guest=web\0-uuid\x001b4e28ba-2fa1-11d2-883f-0016d3cca427\0",
    )?;
    file("9/task/11/comm", "CPU 0/KVM\n")?;
    fs::create_dir_all(proc.join("9/fd"))?;
    symlink("anon_inode:kvm-vm", proc.join("9/fd/5"))?;
    Ok(proc)
}

fn check_fake_host() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let mut collector = Collector::start(&fake_proc(&folder)?)?;
    let list = collector.list()?;
    ensure(list == collector.read_line()?, "the lists differ")?;
    let vms = serde_json::from_str::<vm::VmList>(&list)?.vms;
    let [vm] = vms.as_slice() else {
        return Err(format!("not one VM: {list}").into());
    };
    ensure(
        vm.name == "web" && vm.uuid.is_some() && vm.vcpus.len() == 1,
        &list,
    )
}

fn check_confinement() -> Result<(), Failed> {
    let mut collector = Collector::start(Path::new("/proc"))?;
    // It is confined before it answers.
    collector.list()?;
    let lister = collector.lister_dir();
    let comm = fs::read_to_string(lister.join("comm"))?;
    ensure(comm == "kvm-collector-v\n", &comm)?;

    let mut sockets = 0;
    for entry in fs::read_dir(lister.join("fd"))? {
        let target = fs::read_link(entry?.path())?;
        match target.to_str() {
            Some("/dev/null") => {}
            Some(text) if text.starts_with("socket:") => sockets += 1,
            _ => return Err(format!("it has {}", target.display()).into()),
        }
    }
    ensure(sockets == 1, "it has several sockets")?;
    ensure(
        fs::read_dir(lister.join("fd"))?.count() == 4,
        "it has other files",
    )?;

    let status = fs::read_to_string(lister.join("status"))?;
    ensure(
        status.contains("NoNewPrivs:\t1\n"),
        "it can gain privileges",
    )?;
    let needed = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
    let held = caps::read(None, CapSet::Permitted)?;
    let expected = needed.iter().filter(|it| held.contains(it));
    // Without CAP_DAC_READ_SEARCH, it keeps CAP_DAC_OVERRIDE.
    if held.contains(&needed[1]) {
        let mask = expected.fold(0, |mask, it| mask | it.bitmask());
        for set in ["CapPrm", "CapEff"] {
            let line = format!("{set}:\t{mask:016x}\n");
            ensure(status.contains(&line), &format!("no {line} in {status}"))?;
        }
    }
    for set in ["CapInh", "CapAmb"] {
        let line = format!("{set}:\t{:016x}\n", 0);
        ensure(status.contains(&line), &format!("no {line} in {status}"))?;
    }
    Ok(())
}

fn check_end() -> Result<(), Failed> {
    for request in [false, true] {
        let mut collector = Collector::start(Path::new("/proc"))?;
        if request {
            collector.list()?;
        }
        collector.process.kill()?;
        ensure(collector.has_lister_ended(), "it runs after SIGKILL")?;
    }
    let mut collector = Collector::start(Path::new("/proc"))?;
    drop(collector.process.stdin.take());
    ensure(collector.has_lister_ended(), "it runs after the end")?;
    ensure(collector.process.wait()?.success(), "the collector failed")
}

fn check_signals() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let mut collector = Collector::start(&fake_proc(&folder)?)?;
    collector.list()?;
    collector.read_line()?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::TSTP] {
        collector.kill_lister(signal)?;
    }
    let list = collector.list()?;
    ensure(list.contains("web"), &list)
}

fn check_killed() -> Result<(), Failed> {
    let mut collector = Collector::start(Path::new("/proc"))?;
    collector.kill_lister(Signal::KILL)?;
    ensure(collector.has_lister_ended(), "it runs after SIGKILL")?;
    let pid = collector.lister;
    let expected = format!("the process that lists VMs (pid {pid}) has ended");
    for _ in 0..2 {
        let text = collector.list()?;
        ensure(text == expected, &text)?;
    }
    // The collector itself goes on.
    drop(collector.process.stdin.take());
    let mut rest = String::new();
    collector.output.read_to_string(&mut rest)?;
    ensure(
        collector.process.wait()?.success() && rest.is_empty(),
        &rest,
    )
}

fn check_threads() -> Result<(), Failed> {
    let (wait, end) = std::os::unix::net::UnixStream::pair()?;
    // Tests run in threads of their own only if there are several.
    let other = thread::spawn(move || (&wait).read(&mut [0]).map(|_| wait.as_raw_fd()));
    let error = VmLister::start(Path::new("/proc"), Listing::Separate).err();
    drop(end);
    let _ = other.join();
    let text = error.ok_or("it was started")?.to_string();
    ensure(text.contains("threads, and only one can be forked"), &text)
}
