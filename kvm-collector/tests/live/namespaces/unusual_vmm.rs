//! VMMs without a main thread, or with a child that has inherited the VM.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{ChildStdin, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use kvm_ioctls::Kvm;
use libtest_mimic::Failed;

use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    process::{ChildGuard, run_collector},
};

/// The environment variable that makes this program act as a VMM. The value is the kind of VMM; see [`run_vmm`].
const VMM_VARIABLE: &str = "KVM_TEST_VMM";

/// A process of this program that acts as a VMM.
struct Vmm {
    child: ChildGuard,
    /// When this is closed, the VMM ends.
    stdin: ChildStdin,
    /// The line that the VMM prints when it is ready.
    first_line: String,
}

impl Vmm {
    fn start(kind: &str) -> Result<Self, Failed> {
        let mut command = Command::new(env::current_exe()?);
        command.env(VMM_VARIABLE, kind).args(["--name", kind]);
        let mut child = ChildGuard::spawn(command.stdin(Stdio::piped()))?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
        let mut first_line = String::new();
        BufReader::new(stdout).read_line(&mut first_line)?;
        ensure(!first_line.is_empty(), || "the VMM did not start".into())?;
        Ok(Self {
            child,
            stdin,
            first_line,
        })
    }
}

/// Acts as a VMM if this process was started by [`Vmm::start`]. Returns the exit code.
pub(crate) fn run_vmm_if_requested() -> Option<ExitCode> {
    let kind = env::var(VMM_VARIABLE).ok()?;
    Some(match run_vmm(&kind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

/// Creates a VM, and waits for the end of stdin. The kind `leaderless` ends its main thread; any other kind forks a child,
/// which inherits the VM.
fn run_vmm(kind: &str) -> Result<(), Failed> {
    let vm = Kvm::new()?.create_vm()?;
    match kind {
        "leaderless" => {
            thread::spawn(move || {
                let _vm = vm;
                // The main thread has ended, or is about to end.
                println!("ready");
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                // SAFETY: this ends the process.
                unsafe { libc::_exit(0) };
            });
            // SAFETY: this ends only this thread, which owns nothing that other threads use.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            Ok(())
        }
        // SAFETY: this process has one thread.
        _ => match unsafe { libc::fork() } {
            0 => loop {
                // The child is killed when its parent ends.
                // SAFETY: the arguments are numbers.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            child => {
                println!("{child}");
                std::io::stdin().read_to_end(&mut Vec::new())?;
                drop(vm);
                Ok(())
            }
        },
    }
}

/// Returns the processes out of `pids` that `list vms` lists, with their names.
fn list_vms(pids: &[u32]) -> Result<Vec<(u64, String)>, Failed> {
    let report = run_collector(&["list", "vms", "--json"])?
        .expect_code(0)?
        .report()?;
    let mut listed = Vec::new();
    for vm in get_list(&report, "vms")? {
        let pid = get_number(vm, "pid")?;
        if pids.iter().any(|it| u64::from(*it) == pid) {
            listed.push((pid, vm["vm"].as_str().unwrap_or_default().to_owned()));
        }
    }
    Ok(listed)
}

pub(super) fn vmm_without_main_thread() -> Result<(), Failed> {
    let vmm = Vmm::start("leaderless")?;
    let pid = vmm.child.pid();
    let stat = format!("/proc/{pid}/stat");
    let is_zombie = || fs::read_to_string(&stat).is_ok_and(|it| it.contains(") Z "));
    for _ in 0..1000 {
        if is_zombie() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    ensure(is_zombie(), || "the main thread has not ended".into())?;
    let expected = vec![(u64::from(pid), "leaderless".to_owned())];
    ensure_equal("listed VMs", list_vms(&[pid])?, expected)?;
    run_collector(&["stat", "--vm", "leaderless", "--no-wait", "-d", "100ms"])?.expect_code(0)?;
    drop(vmm.stdin);
    Ok(())
}

pub(super) fn vmm_with_forked_child() -> Result<(), Failed> {
    let vmm = Vmm::start("forking")?;
    let (pid, child) = (vmm.child.pid(), vmm.first_line.trim().parse()?);
    let files = fs::read_dir(format!("/proc/{child}/fd"))?;
    let targets = files.flatten().map(|it| fs::read_link(it.path()));
    ensure(
        targets
            .flatten()
            .any(|it| it.as_os_str() == "anon_inode:kvm-vm"),
        || "the child has not inherited the VM".into(),
    )?;
    let expected = vec![(u64::from(pid), "forking".to_owned())];
    ensure_equal("listed VMs", list_vms(&[pid, child])?, expected)?;
    drop(vmm.stdin);
    Ok(())
}
