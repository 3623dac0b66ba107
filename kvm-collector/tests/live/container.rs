//! Commands in namespaces of their own, as in a container. This program enters them itself: the test VM has no `unshare`.

use std::{
    env, fs, io,
    io::{BufRead as _, BufReader},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{ChildStdin, Command, ExitCode, Stdio},
};

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::process::{ChildGuard, FinishedProcess, run_command};

/// Set in this program's own environment, it runs its arguments as a command in the namespaces that the value lists.
const INSIDE: &str = "KVM_TEST_INSIDE";

/// New namespaces, by the words that [`INSIDE`] has for them.
const NAMESPACES: [(&str, libc::c_int); 6] = [
    ("user", libc::CLONE_NEWUSER),
    ("mount", libc::CLONE_NEWNS),
    ("uts", libc::CLONE_NEWUTS),
    ("ipc", libc::CLONE_NEWIPC),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
];

/// A command in namespaces of its own. Words: those of [`NAMESPACES`]; `proc` mounts their `/proc`; `clock=SECONDS` is the offset
/// of `time`; `join=PID` enters the namespaces of a [`Container`]; `id=PID` is the command's id in the last of its pid namespaces.
pub(crate) fn inside(words: &str, command: &Command) -> Result<Command, Failed> {
    let mut outer = Command::new(env::current_exe()?);
    outer
        .env(INSIDE, words)
        .arg(command.get_program())
        .args(command.get_args());
    Ok(outer)
}

/// Namespaces that live as long as this.
pub(crate) struct Container {
    holder: ChildGuard,
    /// When it is closed, the namespaces' first process ends.
    _stdin: ChildStdin,
}

impl Container {
    pub(crate) fn new(words: &str) -> Result<Self, Failed> {
        let mut first = Command::new("sh");
        first.args(["-c", "echo ready; exec cat"]);
        let mut holder = ChildGuard::spawn(inside(words, &first)?.stdin(Stdio::piped()))?;
        let stdin = holder.0.stdin.take().ok_or("stdin is piped")?;
        let stdout = holder.0.stdout.take().ok_or("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.trim() != "ready" {
            return Err(format!("the namespaces {words} cannot be made").into());
        }
        Ok(Self {
            holder,
            _stdin: stdin,
        })
    }

    /// A command in them.
    pub(crate) fn command(&self, command: &Command) -> Result<Command, Failed> {
        inside(&format!("join={}", self.holder.pid()), command)
    }

    /// As [`Container::command`], with this process id.
    pub(crate) fn command_with_id(&self, id: &str, command: &Command) -> Result<Command, Failed> {
        inside(&format!("join={} id={id}", self.holder.pid()), command)
    }

    /// Runs a command in them to its end.
    pub(crate) fn run(&self, command: &Command) -> Result<FinishedProcess, Failed> {
        run_command(&mut self.command(command)?)
    }
}

/// Runs the command if this program was started for that.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let words = env::var(INSIDE).ok()?;
    let code = enter_and_run(&words).unwrap_or_else(|error| {
        eprintln!("cannot run a command in namespaces ({words}): {error}");
        111
    });
    Some(ExitCode::from(code))
}

fn enter_and_run(words: &str) -> io::Result<u8> {
    let has = |word: &str| words.split(' ').any(|it| it == word);
    let value = |name: &str| words.split(' ').find_map(|it| it.strip_prefix(name));
    if let Some(pid) = value("join=") {
        join(Path::new("/proc").join(pid).as_path())?;
    }
    let new = NAMESPACES.iter().filter(|(word, _)| has(word));
    let flags = new.fold(0, |flags, (_, flag)| flags | flag);
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    // SAFETY: a system call with a number. This process has one thread, and all in it is its own.
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
    }
    let id = value("id=").and_then(|id| id.parse().ok());
    match fork(id)? {
        0 => {
            // SAFETY: a system call with numbers. With this process, the command ends.
            check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
            if has("proc") {
                mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
            }
            let mut arguments = env::args_os().skip(1);
            let program = arguments.next().unwrap_or_default();
            Err(Command::new(program)
                .args(arguments)
                .env_remove(INSIDE)
                .exec())
        }
        child => {
            let mut status = 0;
            // SAFETY: the status is of this function.
            check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
            let code = libc::WEXITSTATUS(status);
            Ok(u8::try_from(code).unwrap_or(111))
        }
    }
}

/// Enters the namespaces of the process at this directory of `/proc`, and of its children.
fn join(process: &Path) -> io::Result<()> {
    let files = ["uts", "ipc", "pid_for_children", "mnt"]
        .map(|name| fs::File::open(process.join("ns").join(name)));
    for file in files {
        // SAFETY: the descriptor is open.
        check(unsafe { libc::setns(file?.as_raw_fd(), 0) })?;
    }
    Ok(())
}

/// Forks this process, which has one thread; the child may get an id.
fn fork(id: Option<libc::pid_t>) -> io::Result<libc::pid_t> {
    let ids = id.map(|id| [id]);
    let ids = ids.as_ref().map_or(&[][..], |ids| &ids[..]);
    // SAFETY: all of it may be zero.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    arguments.set_tid = if ids.is_empty() {
        0
    } else {
        ids.as_ptr() as u64
    };
    arguments.set_tid_size = ids.len() as u64;
    // SAFETY: without flags, this is fork(2): the child gets a copy of all memory.
    let child = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    check(libc::c_int::try_from(child).unwrap_or(-1))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
