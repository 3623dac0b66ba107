//! Selecting a VM that does not exist when the collector starts.

use std::{collections::BTreeMap, thread, time::Duration};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list},
    counts::event_count,
    exit_reasons,
    exits::counts_by_code,
    guest::Guest,
    process::run_collector,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// All collectors wait for a VM with a name and select only its events, while another VM runs.
pub(super) fn late_vm() -> Result<(), Failed> {
    let folder = TempDir::new("live-and-recorded-late")?;
    let file = folder.file("kvm.data");
    let mut other = Guest::prepare(&["-k", "io", "-n", "1000000", "--name", "other"])?;
    other.start()?;
    let event = ["-e", "kvm_userspace_exit"];
    let start = |args: &[&str]| RunningCollector::start(&[args, &["--vm", "late-*"]].concat());
    let stat = start(&[&["stat", "--json", "--per-vm"], &event[..]].concat())?;
    let exits = start(&["exits", "--json", "--by", "vm,reason"])?;
    let intervals = start(&["exits", "--json", "-I", "500ms", "--by", "vm,reason"])?;
    let trace = start(&[&["trace", "--json", "--strict"], &event[..]].concat())?;
    let record = start(&["record", "--strict", "-o", &file])?;
    let load = ["-k", "io,cpuid,mmio,msr", "-n", "200", "--sleep", "2ms"];
    let late = Guest::prepare(&[&load[..], &["--name", "late-1"]].concat())?;
    let pid = late.pid.clone();
    let guest = late.run()?;
    let (userspace_exits, exits_by_reason) = (guest.userspace_exits()?, guest.exits()?);
    // The collectors check for ended processes a few times per second.
    thread::sleep(Duration::from_millis(700));
    let collectors = [stat, exits, intervals, trace, record];
    let [stat, exits, intervals, trace, record] = collectors.map(|collector| {
        let output = collector.end()?.expect_code(0)?;
        // Each collector warned that there is no such VM yet.
        output.expect_message(&["yet"])
    });
    drop(other);

    let stat = stat?.report()?;
    let recorded = ["-i", &file];
    let stat_recorded = run_collector(&[&["stat", "--json", "--per-vm"], &recorded[..]].concat())?;
    let stat_recorded = stat_recorded.expect_code(0)?.report()?;
    for (name, report) in [("stat", &stat), ("stat of the recording", &stat_recorded)] {
        ensure_nothing_lost(report)?;
        let [vm] = get_list(report, "vms")? else {
            return Err(format!("{name}: not one VM: {report}").into());
        };
        ensure_equal(name, vm["pid"].to_string(), pid.clone())?;
        for counts in [report, vm] {
            let count = event_count(counts, "kvm:kvm_userspace_exit")?;
            ensure_equal(name, count, userspace_exits)?;
        }
    }
    let exits = exits?.report()?;
    let exits_recorded = ["exits", "--json", "--by", "vm,reason"];
    let exits_recorded = run_collector(&[&exits_recorded, &recorded[..]].concat())?;
    let exits_recorded = exits_recorded.expect_code(0)?.report()?;
    for (name, report) in [
        ("exits", &exits),
        ("exits of the recording", &exits_recorded),
    ] {
        ensure_nothing_lost(report)?;
        for row in get_list(report, "rows")? {
            ensure_equal(name, row["pid"].to_string(), pid.clone())?;
            ensure_equal(name, &row["vm"], &Value::from("late-1"))?;
        }
        let counted = exit_reasons::without_host_exits(counts_by_code(report)?);
        ensure_equal(name, counted, exits_by_reason.clone())?;
    }
    let mut in_intervals = BTreeMap::new();
    for report in intervals?.json()? {
        if report["period"] == "interval" {
            for (code, count) in counts_by_code(&report)? {
                *in_intervals.entry(code).or_default() += count;
            }
        }
    }
    let in_intervals = exit_reasons::without_host_exits(in_intervals);
    ensure_equal("exits of the intervals", in_intervals, exits_by_reason)?;
    let lines = trace?.json()?;
    ensure_equal("lines of trace", lines.len() as u64, userspace_exits)?;
    let pid: u64 = pid.parse()?;
    ensure(lines.iter().all(|line| line["pid"] == pid), || {
        "trace shows events of another VM".into()
    })?;
    ensure(record?.stderr.contains(", 0 lost"), || {
        "events were lost".into()
    })
}

pub(super) fn no_wait() -> Result<(), Failed> {
    let guest = Guest::prepare(&["--name", "there"])?;
    for command in ["stat", "exits", "trace", "record"] {
        let args = [command, "--no-wait", "--vm", "late-*", "-d", "100ms"];
        let output = run_collector(&args)?.expect_code(2)?;
        ensure_equal("stdout", output.stdout.as_str(), "")?;
        let texts = ["no VM is named `late-*`", "there", &guest.pid];
        output.expect_message(&texts)?;
        let there = [command, "--no-wait", "--vm", "there", "-d", "100ms"];
        run_collector(&[&there[..], &["-o", "/dev/null"]].concat())?.expect_code(0)?;
    }
    Ok(())
}
