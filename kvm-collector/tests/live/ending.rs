//! When the collector ends, it closes its output at once. A reader does not have to wait until the kernel has detached the
//! programs.

use std::{
    fs::File,
    io::Read,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    check::{ensure, ensure_equal},
    process::ChildGuard,
    requirements::{Requirement, collector_command, test},
    temp_files::TempDir,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Tracefs];

/// The reader sees the end of the output at most this long after the collector has ended.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The collector ends within this time, also under emulation.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("ending_closes_a_fifo", REQUIREMENTS, fifo),
        test(
            "ending_closes_an_inherited_descriptor",
            REQUIREMENTS,
            inherited_descriptor,
        ),
        test("ending_closes_a_pipe", REQUIREMENTS, pipe),
    ]
}

/// Opens a file and reads it in a thread. Sends the time at which the end of the file was reached.
fn watch_for_end<R: Read>(
    open: impl FnOnce() -> std::io::Result<R> + Send + 'static,
) -> Receiver<Instant> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        if let Ok(mut input) = open()
            && std::io::copy(&mut input, &mut std::io::sink()).is_ok()
        {
            // Fails if the test has failed meanwhile and the receiver is gone.
            let _ = sender.send(Instant::now());
        }
    });
    receiver
}

/// Fails unless the reader sees the end of the output soon after the collector has ended.
fn check_end(mut child: ChildGuard, end_of_output: &Receiver<Instant>) -> Result<(), Failed> {
    ensure_equal("the exit code", child.wait()?, Some(0))?;
    let end = Instant::now();
    let end_of_output = end_of_output.recv_timeout(TIMEOUT)?;
    let delay = end_of_output.saturating_duration_since(end);
    ensure(delay < MAX_DELAY, || {
        format!("the reader saw the end {delay:?} after the collector had ended")
    })
}

/// `trace` attaches a program to every KVM event. Detaching all of them takes long.
const TRACE: [&str; 3] = ["trace", "-d", "300ms"];

fn fifo() -> Result<(), Failed> {
    let folder = TempDir::new("ending")?;
    let path = folder.file("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let input = path.clone();
    let end = watch_for_end(move || File::open(input));
    let child = ChildGuard::spawn(collector_command().args(TRACE).args(["-o", &path]))?;
    check_end(child, &end)
}

/// As with `>(gzip >FILE)` in bash: the collector opens the file by its name, and has inherited another descriptor of it.
fn inherited_descriptor() -> Result<(), Failed> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" -o /proc/self/fd/5 5>&1 >/dev/null", "sh"]);
    command.arg(collector_command().get_program()).args(TRACE);
    let mut child = ChildGuard::spawn(command.stdin(Stdio::null()))?;
    let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
    let end = watch_for_end(|| Ok(stdout));
    check_end(child, &end)
}

fn pipe() -> Result<(), Failed> {
    let mut child = ChildGuard::spawn(collector_command().args(["stat", "-d", "1s"]))?;
    let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
    let end = watch_for_end(|| Ok(stdout));
    check_end(child, &end)
}
