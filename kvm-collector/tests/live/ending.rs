//! Ending: who reads what the collector writes sees its end with the collector's, although detaching its programs takes
//! the kernel longer.

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
    check::{ensure, equal},
    process::ChildGuard,
    requirements::{Requirement, collector_command, test},
    temp_files::TempDir,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Tracefs];

/// A reader sees the end within this time after the collector's.
const SOON: Duration = Duration::from_secs(1);

/// No run here takes longer, also under emulation.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("ending_closes_a_fifo", REQUIREMENTS, fifo),
        test("ending_closes_what_a_shell_opened", REQUIREMENTS, inherited),
        test("ending_closes_a_pipe", REQUIREMENTS, piped),
    ]
}

/// Says when there is nothing more to read.
fn end_of<R: Read>(
    open: impl FnOnce() -> std::io::Result<R> + Send + 'static,
) -> Receiver<Instant> {
    let (ended, end) = channel();
    thread::spawn(move || {
        if let Ok(mut from) = open()
            && std::io::copy(&mut from, &mut std::io::sink()).is_ok()
        {
            // Where the test has failed, nobody asks any more.
            let _ = ended.send(Instant::now());
        }
    });
    end
}

/// The reader's end comes soon after the collector's.
fn ends_together(mut child: ChildGuard, end: &Receiver<Instant>) -> Result<(), Failed> {
    equal("the exit code", child.wait()?, Some(0))?;
    let ended = Instant::now();
    let late = end.recv_timeout(PATIENCE)?.saturating_duration_since(ended);
    ensure(late < SOON, || {
        format!("the reader saw the end {late:?} after the collector's")
    })
}

/// `trace` attaches a program to each event of KVM that takes long to detach.
const TRACE: [&str; 3] = ["trace", "-d", "300ms"];

fn fifo() -> Result<(), Failed> {
    let folder = TempDir::new("ending")?;
    let path = folder.file("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let to = path.clone();
    let end = end_of(move || File::open(to));
    let child = ChildGuard::spawn(collector_command().args(TRACE).args(["-o", &path]))?;
    ends_together(child, &end)
}

/// As with bash's `>(gzip >FILE)`: beside the file that is opened by its name, the collector has another descriptor of it.
fn inherited() -> Result<(), Failed> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" -o /proc/self/fd/5 5>&1 >/dev/null", "sh"]);
    command.arg(collector_command().get_program()).args(TRACE);
    let mut child = ChildGuard::spawn(command.stdin(Stdio::null()))?;
    let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
    let end = end_of(|| Ok(stdout));
    ends_together(child, &end)
}

fn piped() -> Result<(), Failed> {
    let mut child = ChildGuard::spawn(collector_command().args(["stat", "-d", "1s"]))?;
    let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
    let end = end_of(|| Ok(stdout));
    ends_together(child, &end)
}
