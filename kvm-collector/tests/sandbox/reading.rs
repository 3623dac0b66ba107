//! A command that reads a recording has no privilege, before it reads the first byte.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use libtest_mimic::Failed;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{Setup, collector, copy_of_collector, ensure, succeed, thread_status::ThreadStatus};

pub(crate) fn as_this_user() -> Result<(), Failed> {
    check_commands(&Setup::new(), &|| Command::new(collector()))
}

pub(crate) fn as_nobody() -> Result<(), Failed> {
    let setup = Setup::new();
    let copy = copy_of_collector(&setup.folder)?;
    check_commands(&setup, &|| crate::as_nobody(&copy))
}

/// Every command reads a named pipe without a writer, so it stops when it has opened nothing yet.
fn check_commands(setup: &Setup, command: &dyn Fn() -> Command) -> Result<(), Failed> {
    let pipe = named_pipe(setup)?;
    for args in [
        &["exits", "-i", "IN"][..],
        &["stat", "-i", "IN"],
        &["trace", "-i", "IN"],
        &["list", "-i", "IN"],
        &["top", "--once", "-i", "IN"],
        &["convert", "--to", "json", "-o", "-", "-i", "IN"],
    ] {
        let child = start(&mut command(), args, &pipe)?;
        let threads = ThreadStatus::wait_until(child.0.id(), |it| it.has_filter)?;
        ensure(!threads.is_empty(), || "no threads")?;
        for thread in threads {
            let none = [thread.permitted, thread.effective, thread.inheritable] == [0; 3];
            ensure(none && thread.no_new_privs, || {
                format!("{args:?}: {thread:?}")
            })?;
        }
    }
    Ok(())
}

/// An ordinary user compares a recording with a report.
pub(crate) fn with_baseline() -> Result<(), Failed> {
    let setup = Setup::new();
    let copy = copy_of_collector(&setup.folder)?;
    fs::set_permissions(&setup.input, fs::Permissions::from_mode(0o644))?;
    let exits = || {
        let mut command = crate::as_nobody(&copy);
        command.arg("exits").arg("-i").arg(&setup.input);
        command
    };
    let baseline = setup.folder.file("before.json");
    fs::write(&baseline, succeed(exits().arg("--json"))?.stdout)?;
    let output = succeed(exits().arg("--baseline").arg(&baseline))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure(text.contains("before.json"), || text.to_string())
}

/// Links in a directory of recordings are followed, but not those that another user could have placed.
pub(crate) fn through_links() -> Result<(), Failed> {
    let setup = Setup::new();
    let folder = setup.folder.file("links");
    fs::create_dir(&folder)?;
    symlink(&setup.input, folder.join("kvm.data"))?;
    let read = |input: &Path| {
        Command::new(collector())
            .arg("exits")
            .arg("-i")
            .arg(input)
            .output()
    };
    for input in [folder.clone(), folder.join("*.data")] {
        let output = read(&input)?;
        ensure(output.status.success(), || format!("{output:?}"))?;
    }
    fs::copy(&setup.input, folder.join("other.data"))?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    let output = read(&folder)?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let is_refused = messages.contains("kvm.data: Permission denied")
        && messages.contains("the report is about the other recordings");
    ensure(output.status.code() == Some(1) && is_refused, || {
        messages.to_string()
    })
}

/// The screen changes the settings of the terminal, and restores them.
pub(crate) fn on_a_terminal() -> Result<(), Failed> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let setup = Setup::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let open = || {
        let mut options = fs::File::options();
        options
            .read(true)
            .write(true)
            .open(name.to_string_lossy().as_ref())
    };
    let terminal = open()?;
    let size = rustix::termios::Winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    let mut command = Command::new(collector());
    command.args(["top", "-i"]).arg(&setup.input);
    let child = command
        .stdin(open()?)
        .stdout(open()?)
        .stderr(Stdio::piped());
    let child = child.spawn()?;
    let mut master = fs::File::from(master);
    // It waits for a key, since a recording that has ended stays on the screen.
    std::io::Write::write_all(&mut master, b"q")?;
    // Its output has to be read, or it would wait.
    std::thread::spawn(move || std::io::copy(&mut master, &mut std::io::sink()));
    let output = child.wait_with_output()?;
    ensure(output.status.success(), || format!("{output:?}"))
}

pub(crate) fn without_sandbox() -> Result<(), Failed> {
    let setup = Setup::new();
    let pipe = named_pipe(&setup)?;
    let args = &["exits", "--no-sandbox", "-i", "IN"];
    let child = start(&mut Command::new(collector()), args, &pipe)?;
    let own = ThreadStatus::read_all(std::process::id())?;
    let opened = format!("/proc/{}/syscall", child.0.id());
    // It waits in openat.
    let waits = || {
        fs::read_to_string(&opened)
            .is_ok_and(|it| it.starts_with(&format!("{} ", libc::SYS_openat)))
    };
    for _ in 0..1000 {
        if waits() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let threads = ThreadStatus::read_all(child.0.id())?;
    ensure(
        waits() && threads[0].permitted == own[0].permitted && !threads[0].has_filter,
        || format!("{threads:?}"),
    )
}

fn named_pipe(setup: &Setup) -> Result<PathBuf, Failed> {
    let pipe = setup.folder.file("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
    fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok(pipe)
}

fn start(command: &mut Command, args: &[&str], pipe: &PathBuf) -> Result<ChildGuard, Failed> {
    for arg in args {
        match *arg {
            "IN" => command.arg(pipe),
            arg => command.arg(arg),
        };
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    Ok(ChildGuard(child))
}

struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
