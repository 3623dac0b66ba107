//! `trace` and `stat` print the same live and from a recording.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use serde_json::Value;

use super::{parse_lines, trace_complete};
use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    guest::Guest,
    process::run_collector,
    running_collector::RunningCollector,
    temp_files::TempDir,
    trace_line::TraceLine,
};

/// `stat` counts the events of a guest live and from a recording of the same run.
pub(super) fn stat_equals_live() -> Result<(), Failed> {
    let folder = TempDir::new("stat")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "500", "--vcpus", "2"])?;
    let options = ["--json", "--per-vm", "-p", &guest.pid.clone()];
    let live = RunningCollector::start(&[&["stat"][..], &options].concat())?;
    let record = RunningCollector::start(&["record", "--strict", "-p", options[3], "-o", &file])?;
    guest.run()?;
    record.end()?.expect_code(0)?;
    let live = live.end()?.expect_code(0)?.report()?;
    let recorded = run_collector(&[&["stat", "-i", &file][..], &options].concat())?;
    let recorded = recorded.expect_code(0)?.report()?;
    let counts = |report: &Value| {
        let events = report["events"].as_array().into_iter().flatten();
        let counts =
            events.map(|event| Ok((event["event"].to_string(), get_number(event, "count")?)));
        let mut counts: BTreeMap<_, _> = counts.collect::<Result<_, Failed>>()?;
        counts.retain(|_, count| *count > 0);
        Ok::<_, Failed>(counts)
    };
    ensure(counts(&live)?.len() > 3, || {
        format!("too few events: {live}")
    })?;
    ensure_equal("events", counts(&recorded)?, counts(&live)?)?;
    ensure_equal(
        "events of the VM",
        counts(&recorded["vms"][0])?,
        counts(&live["vms"][0])?,
    )
}

/// `record` leaves out events if it is not known whether they are selected. Reports of the recording say how many. Where exits do not
/// fire, the vCPU of no event is known.
pub(super) fn left_out_events() -> Result<(), Failed> {
    let folder = TempDir::new("left-out")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "50"])?;
    let pid = guest.pid.clone();
    let options = ["record", "-e", "kvm_pio", "-p", &pid, "--vcpu", "0"];
    let record = RunningCollector::start(&[&options[..], &["-o", &file]].concat())?;
    guest.run()?;
    let ended = record.end()?.expect_code(0)?;
    let stat = run_collector(&["stat", "-i", &file, "--json"])?.expect_code(0)?;
    let stat = stat.report()?;
    let lost = get_number(&stat["loss"], "lost")?;
    ended.expect_message(&[&format!(" {lost} lost")])?;
    // Two further accesses are those of the guest's start and end.
    let recorded = get_number(&stat["events"][0], "count")?;
    ensure_equal("recorded and lost", recorded + lost, 52)
}

/// `trace` prints the events of a guest live and from a recording of the same run.
pub(super) fn trace_equals_live() -> Result<(), Failed> {
    let folder = TempDir::new("trace")?;
    for (name, options) in [("plain", &[][..]), ("compressed", &["-z"])] {
        let file = folder.file(name);
        let guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "500", "--vcpus", "2"])?;
        let pid = guest.pid.clone();
        let live = RunningCollector::start(&["trace", "--strict", "-p", &pid])?;
        let args = [&["record", "--strict", "-p", &pid, "-o", &file], options].concat();
        let record = RunningCollector::start(&args)?;
        let guest = guest.run()?;
        let live = live.end()?.expect_code(0)?;
        record
            .end()?
            .expect_code(0)?
            .expect_message(&["events recorded to"])?;
        let recorded = trace_complete(&file, &[])?;
        let (live, recorded) = (parse_lines(&live.stdout)?, parse_lines(&recorded.stdout)?);
        let exits = |lines: &[TraceLine]| {
            lines
                .iter()
                .filter(|it| it.event == "kvm_userspace_exit")
                .count() as u64
        };
        ensure_equal(
            "userspace exits recorded",
            exits(&recorded),
            guest.userspace_exits()?,
        )?;
        let (live, recorded) = (events_by_thread(&live), events_by_thread(&recorded));
        for (tid, events) in &live {
            ensure(recorded.get(tid) == Some(events), || {
                format!(
                    "thread {tid}: the recorded events differ from the {} live events",
                    events.len()
                )
            })?;
        }
        ensure_equal("threads", recorded.len(), live.len())?;
        // `stat` counts the same number of events in the recording.
        let stat = run_collector(&["stat", "--json", "--strict", "-i", &file])?
            .expect_code(0)?
            .report()?;
        let total: u64 = get_list(&stat, "events")?
            .iter()
            .filter_map(|event| event["count"].as_u64())
            .sum();
        ensure_equal(
            "events counted",
            total,
            recorded.values().map(Vec::len).sum::<usize>() as u64,
        )?;
    }
    Ok(())
}

/// Returns the events of each thread in order, without times. Two collectors have different times for the same event, since
/// each reads the clock itself.
fn events_by_thread(lines: &[TraceLine]) -> BTreeMap<u32, Vec<String>> {
    let mut threads: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in lines {
        threads
            .entry(line.tid)
            .or_default()
            .push(format!("{} {}: {}", line.cpu, line.event, line.text));
    }
    threads
}
