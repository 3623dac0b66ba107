//! Runs commands in new namespaces, like a container. The test program enters them itself, because the test VM has no
//! `unshare`.

use std::{
    env, fs, io,
    io::{BufRead as _, BufReader},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{ChildStdin, Command, ExitCode, Stdio},
};

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use crate::process::{ChildGuard, FinishedProcess, run_command};

/// The environment variable that makes this program run its arguments as a command in namespaces. The value lists the
/// namespaces; see [`command_in_namespaces`].
const NAMESPACES_VARIABLE: &str = "KVM_TEST_INSIDE";

/// The namespaces that can be created: the word in the list, and the flag of `unshare`.
const NAMESPACES: [(&str, libc::c_int); 6] = [
    ("user", libc::CLONE_NEWUSER),
    ("mount", libc::CLONE_NEWNS),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
];

/// Returns a command that runs `command` in namespaces. `words` is a list, separated by spaces:
///
/// - a word of [`NAMESPACES`] creates this namespace,
/// - `proc` mounts a `/proc` of the new namespaces,
/// - `no-kvm` mounts `/dev/null` at `/dev/kvm`; use it only with `mount`,
/// - `clock=SECONDS` sets the offset of the namespace `time`,
/// - `join=PID` enters the namespaces of a [`Container`],
/// - `id=PID` sets the command's process id in the innermost pid namespace.
pub(crate) fn command_in_namespaces(words: &str, command: &Command) -> Result<Command, Failed> {
    let mut outer = Command::new(env::current_exe()?);
    outer
        .env(NAMESPACES_VARIABLE, words)
        .arg(command.get_program())
        .args(command.get_args());
    Ok(outer)
}

/// Namespaces in which several commands can run. They exist until this is dropped.
pub(crate) struct Container {
    /// The first process in the namespaces.
    holder: ChildGuard,
    /// When this is closed, the holder ends.
    _stdin: ChildStdin,
}

impl Container {
    /// Creates namespaces; see [`command_in_namespaces`] for `words`.
    pub(crate) fn new(words: &str) -> Result<Self, Failed> {
        let mut first = Command::new("sh");
        first.args(["-c", "echo ready; exec cat"]);
        let mut holder =
            ChildGuard::spawn(command_in_namespaces(words, &first)?.stdin(Stdio::piped()))?;
        let stdin = holder.0.stdin.take().ok_or("stdin is piped")?;
        let stdout = holder.0.stdout.take().ok_or("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            return Err(format!("cannot create the namespaces {words}").into());
        }
        Ok(Self {
            holder,
            _stdin: stdin,
        })
    }

    /// Returns a command that runs `command` in the namespaces.
    pub(crate) fn command(&self, command: &Command) -> Result<Command, Failed> {
        command_in_namespaces(&format!("join={}", self.holder.pid()), command)
    }

    /// Like [`Container::command`]; the process gets the id `id` in the innermost pid namespace.
    pub(crate) fn command_with_id(&self, id: &str, command: &Command) -> Result<Command, Failed> {
        command_in_namespaces(&format!("join={} id={id}", self.holder.pid()), command)
    }

    /// Runs a command in the namespaces until it ends.
    pub(crate) fn run(&self, command: &Command) -> Result<FinishedProcess, Failed> {
        run_command(&mut self.command(command)?)
    }
}

/// Runs a command in namespaces if this process was started by [`command_in_namespaces`]. Returns the exit code.
pub(crate) fn run_if_requested() -> Option<ExitCode> {
    let words = env::var(NAMESPACES_VARIABLE).ok()?;
    let code = enter_and_run(&words).unwrap_or_else(|error| {
        eprintln!("cannot run a command in namespaces ({words}): {error}");
        111
    });
    Some(ExitCode::from(code))
}

fn enter_and_run(words: &str) -> io::Result<u8> {
    let has = |name: &str| words.split(' ').any(|word| word == name);
    let value = |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name));
    if let Some(pid) = value("join=") {
        join(Path::new("/proc").join(pid).as_path())?;
    }
    let new = NAMESPACES.iter().filter(|(word, _)| has(word));
    let flags = new.fold(0, |flags, (_, flag)| flags | flag);
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    // SAFETY: the argument is a number. This process has one thread.
    check(unsafe { libc::unshare(flags) })?;
    if has("user") {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
        fs::write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))?;
    }
    if let Some(seconds) = value("clock=") {
        fs::write(
            "/proc/self/timens_offsets",
            format!("monotonic {seconds} 0\nboottime {seconds} 0\n"),
        )?;
    }
    if has("mount") {
        let recursive = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", recursive)?;
        if has("no-kvm") {
            mount_bind("/dev/null", "/dev/kvm")?;
        }
    }
    let id = value("id=").and_then(|id| id.parse().ok());
    match fork(id)? {
        0 => {
            // The command is killed when this process ends.
            // SAFETY: the arguments are numbers.
            check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
            if has("proc") {
                mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
            }
            let mut arguments = env::args_os().skip(1);
            let program = arguments.next().unwrap_or_default();
            Err(Command::new(program)
                .args(arguments)
                .env_remove(NAMESPACES_VARIABLE)
                .exec())
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is a local variable.
            check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
            let code = libc::WEXITSTATUS(status);
            Ok(u8::try_from(code).unwrap_or(111))
        }
    }
}

/// Enters the namespaces of a process, including the pid namespace of its children. `process` is its directory in `/proc`.
fn join(process: &Path) -> io::Result<()> {
    let files = ["uts", "ipc", "pid_for_children", "mnt"]
        .map(|name| fs::File::open(process.join("ns").join(name)));
    for file in files {
        // SAFETY: the descriptor is open.
        check(unsafe { libc::setns(file?.as_raw_fd(), 0) })?;
    }
    Ok(())
}

/// Forks this process, which has one thread. With `id`, the child gets this id in the innermost pid namespace.
fn fork(id: Option<libc::pid_t>) -> io::Result<libc::pid_t> {
    let ids = id.map(|id| [id]);
    let ids = ids.as_ref().map_or(&[][..], |ids| &ids[..]);
    // SAFETY: `clone_args` consists of integers, for which zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    arguments.set_tid = if ids.is_empty() {
        0
    } else {
        ids.as_ptr() as u64
    };
    arguments.set_tid_size = ids.len() as u64;
    // SAFETY: without flags, this is fork(2), which copies the memory. `arguments` and `ids` are valid during the call.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    check(libc::c_int::try_from(child).unwrap_or(-1))
}

/// Returns the result of a system call, or the error in `errno` if it is negative.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
