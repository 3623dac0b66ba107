//! A process in the sandbox can use its files, and nothing else.
//!
//! The test starts itself, enters the sandbox in the child, and tries what an attacker would.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use kvm_collector::{
    host::sandbox::{self, Layer, Needs},
    output_file::{OutputFile, Previous},
};
use libtest_mimic::Failed;

use crate::{Reason, Setup, ensure};

/// The folder of the test, in the environment of the child.
const FOLDER: &str = "KVM_COLLECTOR_TEST_SANDBOX";

/// Returns why the kernel does not support the sandbox.
pub(crate) fn why_impossible() -> Reason {
    const GET_VERSION: libc::c_long = 1;
    // SAFETY: the call returns the version of Landlock, and reads no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, GET_VERSION) };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match (version > 0, status.contains("Seccomp:")) {
        (true, true) => None,
        (false, _) => Some("this kernel has no Landlock, or lsm= does not enable it".to_owned()),
        (_, false) => Some("this kernel has no seccomp".to_owned()),
    }
}

pub(crate) fn check() -> Result<(), Failed> {
    let setup = Setup::new();
    fs::write(setup.folder.file("secret"), "secret")?;
    fs::create_dir(setup.folder.file("out"))?;
    let child = Command::new(std::env::current_exe()?)
        .env(FOLDER, setup.folder.file(""))
        .output()?;
    let failures = String::from_utf8_lossy(&child.stdout);
    ensure(child.status.success() && failures.trim() == "done", || {
        format!(
            "{}: {failures}{}",
            child.status,
            String::from_utf8_lossy(&child.stderr)
        )
    })?;
    ensure(
        !setup.folder.file("stolen").exists(),
        || "a file was created",
    )?;
    let written = fs::read_to_string(setup.folder.file("out/report"))?;
    ensure(written == "second", || written)
}

/// Runs the child, if this process is it.
pub(crate) fn run_if_requested() -> Option<ExitCode> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let failures = try_everything(&folder);
    for failure in &failures {
        println!("{failure}");
    }
    println!("done");
    Some(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn try_everything(folder: &Path) -> Vec<String> {
    let output = folder.join("out/report");
    // Before the sandbox: the file is replaced later.
    fs::write(&output, "first").expect("a writable folder");
    let terminal = fs::File::open("/dev/null").expect("a device");
    let in_force = sandbox::enter(Needs {
        inputs: vec![folder.join("kvm.data")],
        outputs: vec![output.clone()],
        ..Needs::default()
    });
    let mut failures = Vec::new();
    let mut expect = |what: &str, is_met: bool| {
        if !is_met {
            failures.push(format!("{what}: {}", io::Error::last_os_error()));
        }
    };
    let error_of = |result: libc::c_long| match result {
        -1 => io::Error::last_os_error().raw_os_error(),
        _ => None,
    };
    expect(
        "all layers",
        in_force.is_complete() && matches!(in_force.landlock, Layer::On(_)),
    );
    // What is needed works.
    expect("read the input", fs::read(folder.join("kvm.data")).is_ok());
    let written = OutputFile::create(&output).and_then(|mut file| {
        io::Write::write_all(&mut file, b"second")?;
        file.sync()?;
        file.publish(Previous::Replace)
    });
    expect("write the output", written.is_ok());
    expect(
        "a thread",
        std::thread::spawn(|| 7).join().is_ok_and(|it| it == 7),
    );
    // A statically linked collector needs them to convert to Parquet.
    for device in ["/dev/random", "/dev/urandom"] {
        expect(device, fs::File::open(device).is_ok());
    }
    // Nothing else does.
    expect("read a file", fs::read(folder.join("secret")).is_err());
    expect("read /etc/passwd", fs::read("/etc/passwd").is_err());
    expect("read /proc/1", fs::read("/proc/1/comm").is_err());
    expect(
        "create a file",
        fs::write(folder.join("stolen"), "x").is_err(),
    );
    expect(
        "move a file",
        fs::rename(folder.join("secret"), folder.join("out/stolen")).is_err(),
    );
    expect(
        "remove a file",
        fs::remove_file(folder.join("secret")).is_err(),
    );
    expect("run a program", Command::new("/bin/true").spawn().is_err());
    // SAFETY: these calls get numbers and pointers to constants; those that succeed against expectation only harm this process.
    unsafe {
        let forbidden = [
            (
                "socket",
                libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            ),
            (
                "ptrace",
                libc::syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
            ),
            (
                "unshare",
                libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER),
            ),
            ("setuid", libc::syscall(libc::SYS_setuid, 0)),
            (
                "chmod",
                libc::syscall(libc::SYS_fchmod, terminal.as_raw_fd(), 0),
            ),
            ("kill", libc::syscall(libc::SYS_kill, libc::getppid(), 0)),
            ("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0)),
            (
                "perf",
                libc::syscall(libc::SYS_perf_event_open, 0, 0, 0, 0, 0),
            ),
            ("io_uring", libc::syscall(libc::SYS_io_uring_setup, 1, 0)),
            (
                "terminal input",
                libc::syscall(
                    libc::SYS_ioctl,
                    terminal.as_raw_fd(),
                    libc::TIOCSTI,
                    c"x".as_ptr(),
                ),
            ),
            (
                "executable memory",
                libc::syscall(
                    libc::SYS_mmap,
                    0,
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                ),
            ),
        ];
        for (name, result) in forbidden {
            expect(name, result == -1);
        }
        let user_namespace = libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0);
        if user_namespace == 0 {
            libc::_exit(0);
        }
        expect("namespace", error_of(user_namespace) == Some(libc::EPERM));
    }
    failures
}
