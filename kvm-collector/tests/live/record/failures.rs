//! Recordings of a `record` that was killed, or whose disk was full.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;

use super::{parse_lines, trace_complete};
use crate::{
    check::{ensure, ensure_equal},
    guest::Guest,
    process::{run_collector, run_command},
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// Runs a guest and a `record` that is killed afterwards. Returns the number of the guest's exits to user space.
fn run_killed_record(file: &str) -> Result<u64, Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let record = RunningCollector::start(&["record", "-o", file])?;
    let guest = guest.run()?;
    // `record` writes five times per second.
    thread::sleep(Duration::from_secs(1));
    let code = record.kill()?.code;
    ensure_equal("the exit code of a killed process", code, None)?;
    guest.userspace_exits()
}

pub(super) fn killed() -> Result<(), Failed> {
    let folder = TempDir::new("killed")?;
    let file = folder.file("kvm.data");
    let expected = run_killed_record(&file)?;
    let trace = run_collector(&["trace", "-e", "kvm_userspace_exit", "-i", &file])?
        .expect_code(0)?
        .expect_message(&[
            "is incomplete",
            "not finished",
            "only the events before that are used",
        ])?;
    let count = parse_lines(&trace.stdout)?.len() as u64;
    ensure(count >= expected, || {
        format!("the recording has {count} of {expected} events")
    })?;
    run_collector(&["trace", "--strict", "-i", &file])?.expect_code(3)?;
    Ok(())
}

pub(super) fn perf_script_after_kill() -> Result<(), Failed> {
    let folder = TempDir::new("killed-perf")?;
    let file = folder.file("kvm.data");
    let expected = run_killed_record(&file)?;
    let text = run_command(Command::new("perf").args(["script", "-i", &file]))?
        .expect_code(0)?
        .stdout;
    let count = text
        .lines()
        .filter(|it| it.contains("kvm:kvm_userspace_exit: "))
        .count() as u64;
    ensure(count >= expected, || {
        format!("perf prints {count} of {expected} events")
    })
}

/// A mounted file system, which is unmounted on drop.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::empty());
    }
}

/// Writes a file of a size. The kernel frees the space of a removed file some milliseconds after its last reader has ended,
/// because the reader's Landlock rule still refers to the file.
fn fill(file: &str, bytes: usize) -> Result<(), Failed> {
    let begin = Instant::now();
    loop {
        match fs::write(file, vec![0; bytes]) {
            Err(_) if begin.elapsed() < Duration::from_secs(2) => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return Ok(result?),
        }
    }
}

pub(super) fn full_disk() -> Result<(), Failed> {
    let folder = TempDir::new("full")?;
    let size = std::ffi::CString::new("size=1m")?;
    rustix::mount::mount(
        "tmpfs",
        folder.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        size.as_c_str(),
    )?;
    let _mounted = Mount(folder.path());
    // Compressed events would need seconds to fill the disk, and a busy machine loses too many events during that time. So
    // another file fills most of it.
    for (options, used_bytes) in [(&[][..], 0), (&["-z"], 768 << 10)] {
        fill(&folder.file("used"), used_bytes)?;
        let file = folder.file("kvm.data");
        // With the pauses, the disk gets full while events arrive, on a fast machine, too.
        let guest = Guest::prepare(&["-k", "io", "-n", "20000", "--sleep", "20us"])?;
        let record = RunningCollector::start(&[&["record", "-o", &file], options].concat())?;
        guest.run()?;
        let output = record.end()?.expect_code(1)?.expect_message(&[
            "events recorded to",
            "ended early",
            "No space left",
        ])?;
        let reported: usize = output
            .stderr
            .split("kvm-collector: ")
            .find_map(|message| {
                let (number, _) = message.split_once(" events recorded")?;
                number.replace(',', "").parse().ok()
            })
            .ok_or("no number of recorded events")?;
        let count = parse_lines(&trace_complete(&file, &[])?.stdout)?.len();
        ensure_equal("events in the file", count, reported)?;
        ensure(count > 1000, || format!("only {count} events"))?;
        fs::remove_file(&file)?;
    }
    Ok(())
}
