//! Exits are not timed across lost events.

use std::{thread, time::Duration};

use libtest_mimic::Failed;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    check::{ensure, ensure_nothing_lost, get_list, get_number},
    guest::Guest,
    process::run_collector,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// By how much one collector may time an exit longer than another one: an emulated CPU may stop between their clock readings.
const MARGIN_NS: u64 = 5_000_000;

/// Two collectors with small rings are stopped while the guest runs. An exit before the loss and an entry after it are not
/// timed. The guest stays on one CPU: if it moved to a CPU that loses events and back, a replay could not notice it.
pub(super) fn lost_events() -> Result<(), Failed> {
    const STOPPED: Duration = Duration::from_millis(400);
    let folder = TempDir::new("live-and-recorded-ring")?;
    let file = folder.file("kvm.data");
    let mut guest = Guest::prepare(&["-k", "io,cpuid", "-n", "8000", "--cpu", "1"])?;
    let pid = guest.pid.clone();
    let exits = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    // With two events per exit, the ring overflows only while its reader is stopped. There must be exits that are far from
    // a loss, since the others have no time.
    let small = ["--ring", "64K", "-p", &pid, "-e", "kvm_exit,kvm_entry"];
    let trace =
        RunningCollector::start(&[&["trace", "--per-exit", "--json"], &small[..]].concat())?;
    let record = RunningCollector::start(&[&["record", "-o", &file], &small[..]].concat())?;
    guest.start()?;
    thread::sleep(Duration::from_millis(50));
    for signal in [Signal::STOP, Signal::CONT] {
        trace.signal(signal)?;
        record.signal(signal)?;
        if signal == Signal::STOP {
            thread::sleep(STOPPED);
        }
    }
    guest.finish()?;
    let exits = exits.end()?.expect_code(0)?.report()?;
    let trace = trace.end()?.expect_code(0)?;
    record.end()?.expect_code(0)?;
    ensure_nothing_lost(&exits)?;
    let longest_ns = max_exit_ns(&exits)?;
    ensure(longest_ns < 200_000_000, || {
        format!("an exit of {longest_ns} ns is too long for this test")
    })?;

    let mut printed = 0;
    for line in trace.json()? {
        if let Some(duration_ns) = line["duration_ns"].as_u64() {
            printed += 1;
            ensure(duration_ns <= longest_ns + MARGIN_NS, || {
                format!("the longest exit took {longest_ns} ns: {line}")
            })?;
        }
    }
    ensure(printed > 0, || format!("no exits: {}", trace.stderr))?;
    ensure(!trace.stderr.contains(" 0 events lost"), || {
        format!("no events were lost: {}", trace.stderr)
    })?;
    trace.expect_message(&["events lost", "without a following entry", "without a time"])?;

    let args = ["exits", "--json", "--strict", "-i", &file];
    let recorded = run_collector(&args)?.expect_code(3)?.report()?;
    for kind in ["lost", "unmatched"] {
        ensure(get_number(&recorded["loss"], kind)? > 0, || {
            format!("{kind}: {recorded}")
        })?;
    }
    let recorded_ns = max_exit_ns(&recorded)?;
    ensure(
        recorded_ns > 0 && recorded_ns <= longest_ns + MARGIN_NS,
        || format!("the longest exit took {longest_ns} ns, and {recorded_ns} in the recording"),
    )
}

/// Returns the longest exit of a report.
fn max_exit_ns(report: &Value) -> Result<u64, Failed> {
    let rows = get_list(report, "rows")?.iter();
    let times = rows.map(|row| get_number(row, "max_ns"));
    let times: Vec<_> = times.collect::<Result<_, _>>()?;
    times.into_iter().max().ok_or_else(|| "no rows".into())
}
