//! File rotation and the flight recorder.

use std::{fs, path::Path, thread, time::Duration};

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::trace_complete;
use crate::{
    check::ensure, guest::Guest, running_collector::RunningCollector, temp_files::TempDir,
};

pub(super) fn rotation() -> Result<(), Failed> {
    let folder = TempDir::new("rotates")?;
    let file = folder.file("kvm.data");
    // Without the pauses, a fast machine makes more events than a build without optimization can record.
    let guest = Guest::prepare(&["-k", "io", "-n", "30000", "--sleep", "20us"])?;
    let options = ["--max-size", "4M", "--rotate", "2"];
    let record =
        RunningCollector::start(&[&["record", "--strict", "-o", &file], &options[..]].concat())?;
    guest.run()?;
    record
        .end()?
        .expect_code(0)?
        .expect_message(&["files, of which 2 remain with", "the last one is"])?;
    for file in [&file, &format!("{file}.1")] {
        let length = fs::metadata(file)?.len();
        ensure(length <= 4 << 20, || format!("{file} has {length} bytes"))?;
        trace_complete(file, &[])?;
    }
    ensure(!Path::new(&format!("{file}.2")).exists(), || {
        "there is a third file".to_owned()
    })
}

pub(super) fn flight_recorder_signal() -> Result<(), Failed> {
    let folder = TempDir::new("flight")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "1000"])?;
    let record = RunningCollector::start(&["record", "--flight-recorder", "60s", "-o", &file])?;
    let guest = guest.run()?;
    thread::sleep(Duration::from_millis(300));
    ensure(!Path::new(&file).exists(), || {
        "written before the signal".to_owned()
    })?;
    record.signal(Signal::USR1)?;
    thread::sleep(Duration::from_millis(500));
    let text = trace_complete(&file, &["-e", "kvm_userspace_exit"])?.stdout;
    let (count, expected) = (text.lines().count() as u64, guest.userspace_exits()?);
    ensure(count >= expected, || {
        format!("the file has {count} of {expected} events")
    })?;
    record.end()?.expect_code(0)?;
    Ok(())
}

pub(super) fn flight_recorder_trigger() -> Result<(), Failed> {
    let folder = TempDir::new("trigger")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "5", "--sleep", "300ms"])?;
    let args = [
        "record",
        "--flight-recorder",
        "10s",
        "--trigger",
        "exit > 250ms",
        "-p",
        &guest.pid,
        "-o",
        &file,
    ];
    let record = RunningCollector::start(&args)?;
    guest.run()?;
    record.end()?.expect_code(0)?.expect_message(&[
        "vCPU 0: io took ",
        "of events, up to",
        " 0 lost",
    ])?;
    let text = trace_complete(&file, &["--min-duration", "250ms", "--per-exit"])?.stdout;
    ensure(!text.is_empty(), || {
        "the exit that triggered the dump is not in the file".to_owned()
    })
}
