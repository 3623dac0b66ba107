//! The output is read slowly, or not at all for half a second.

use std::{
    fs::{self},
    thread::{self},
    time::Duration,
};

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::{
    MANY_ITERATIONS, SMALL_BUFFERS,
    load::{Load, LoadReport, check_all_accounted, check_all_accounted_in, check_complete},
    memory_limit::MemoryLimit,
    slow_reader::{Reader, SlowDisk, Speed, wait_until_blocked_on_pipe},
};
use crate::{
    process::{FinishedProcess, join_reader, run_collector},
    pty::Pty,
    requirements::collector_command,
    temp_files::TempDir,
};

pub(super) fn slow_trace() -> Result<(), Failed> {
    let disk = SlowDisk::new("slow-trace")?;
    let load = Load::prepare(MANY_ITERATIONS)?;
    let collector =
        disk.start_collector(&[&["trace", "--json", "-p", &load.pid()], SMALL_BUFFERS].concat())?;
    let (load_report, written) = disk.run_slowly(load, collector)?;
    let output = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
    check_all_accounted(&output, &load_report)
}

pub(super) fn slow_record() -> Result<(), Failed> {
    let folder = TempDir::new("slow")?;
    let disk = SlowDisk::new("slow-record")?;
    let load = Load::prepare(MANY_ITERATIONS)?;
    let collector =
        disk.start_collector(&[&["record", "-p", &load.pid()], SMALL_BUFFERS].concat())?;
    let (load_report, written) = disk.run_slowly(load, collector)?;
    let file = folder.file("kvm.data");
    fs::write(&file, written)?;
    check_all_accounted_in(&file, &load_report)
}

pub(super) fn slow_terminal() -> Result<(), Failed> {
    let pty = Pty::open()?;
    let load = Load::prepare(MANY_ITERATIONS)?;
    let pid = load.pid();
    let args = [&["trace", "--json", "-p", &pid], SMALL_BUFFERS].concat();
    let command = ["--", "sh", "-c", "echo attached; exec sleep 100"];
    let mut collector = pty.spawn(collector_command().args(args).args(command))?;
    // Including the end of the line, so that the reader gets only what follows.
    pty.wait_for("attached\r\n")?;
    let memory = MemoryLimit::new(collector.pid())?;
    let reader = Reader::start(pty.master.try_clone()?, Speed::Slow);
    let load_report = load.run()?;
    memory.check()?;
    reader.set_speed(Speed::Unlimited);
    collector.signal(Signal::TERM)?;
    let stderr = collector.stderr();
    let code = collector.wait()?;
    drop(pty);
    let output = String::from_utf8(reader.join()?)?;
    check_all_accounted(
        &FinishedProcess::new(code, output, join_reader(stderr))?.expect_code(0)?,
        &load_report,
    )
}

/// Runs the load and a collector, and does not read the collector's output for half a second. Returns everything that the collector wrote.
fn run_stalled(args: &[&str]) -> Result<(LoadReport, Vec<u8>), Failed> {
    let disk = SlowDisk::new("stalled")?;
    // So many events fill the ring ten times, and their JSON text fits into the memory of the test VM. A fast host causes them
    // in less than 0.1 s, which is more than any thread can read. Here only the output must be what is slow.
    let load = Load::prepare_slow("12000")?;
    let collector = disk.start_collector(&[args, &["--ring", "1M", "-p", &load.pid()]].concat())?;
    disk.reader.set_speed(Speed::Stopped);
    let pid = collector.pid();
    let load_report = thread::scope(|scope| {
        let guest = scope.spawn(|| load.run());
        let stall = wait_until_blocked_on_pipe(pid);
        thread::sleep(Duration::from_millis(500));
        disk.reader.set_speed(Speed::Unlimited);
        let load_report = guest
            .join()
            .map_err(|_| "the thread of the guest panicked")?;
        stall.and(load_report)
    })?;
    collector.end()?.expect_code(0)?;
    Ok((load_report, disk.reader.join()?))
}

pub(super) fn stalled_trace() -> Result<(), Failed> {
    let (load_report, written) = run_stalled(&["trace", "--json"])?;
    let output = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
    check_complete(&output, &load_report)
}

pub(super) fn stalled_record() -> Result<(), Failed> {
    let folder = TempDir::new("stalled-record")?;
    let file = folder.file("kvm.data");
    let (load_report, written) = run_stalled(&["record"])?;
    fs::write(&file, written)?;
    check_complete(
        &run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?,
        &load_report,
    )
}
