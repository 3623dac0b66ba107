//! `exits -i` on a recording gives the numbers of perf on the same file, and those of `exits` live.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::KINDS,
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    exits::{REQUIREMENTS as EXIT_REQUIREMENTS, counts_by_code},
    guest::Guest,
    perf::{Recording, Row, VMEXIT, run_report},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    support::Shown,
    temp_files::TempFile,
};

const WITH_PERF: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Perf,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "exits_of_a_recording_equal_live_exits",
            EXIT_REQUIREMENTS,
            recorded_equals_live,
        ),
        test(
            "exits_of_a_recording_equal_perf",
            WITH_PERF,
            own_recording_equals_perf,
        ),
        test(
            "exits_of_a_perf_recording_equal_perf",
            WITH_PERF,
            perf_recording_equals_perf,
        ),
    ]
}

/// The events that `exits` needs.
const EVENTS: &str = "kvm_exit,kvm_entry,kvm_userspace_exit,kvm_vcpu_wakeup";

fn recorded_equals_live() -> Result<(), Failed> {
    let file = TempFile::new("live");
    let file = file.arg()?;
    let guest = Guest::prepare(&["-k", KINDS, "-n", "300", "--vcpus", "2", "--sleep", "300us"])?;
    let pid = guest.pid.clone();
    let by = ["--by", "vm,vcpu,reason", "--json", "-p", &pid];
    let record = RunningCollector::start(&["record", "-e", EVENTS, "-p", &pid, "-o", file])?;
    let live = RunningCollector::start(&[&["exits"], &by[..]].concat())?;
    guest.run()?;
    let live = live.end()?.expect_code(0)?.report()?;
    record.end()?.expect_code(0)?;
    let recorded = run_collector(&[&["exits", "-i", file], &by[..]].concat())?.expect_code(0)?;
    let recorded = recorded.report()?;
    ensure_nothing_lost(&recorded)?;
    ensure_equal(
        "exits per reason",
        counts_by_code(&recorded)?,
        counts_by_code(&live)?,
    )?;
    ensure_equal(
        "rows",
        get_list(&recorded, "rows")?.len(),
        get_list(&live, "rows")?.len(),
    )?;
    // Each collector reads the clock itself, and its times include some work of the other. That is little compared with the
    // exits in which user space sleeps.
    for row in get_list(&recorded, "rows")? {
        let has_same_key = |live: &&Value| {
            ["vm", "pid", "vcpu", "reason"]
                .iter()
                .all(|key| live[key] == row[key])
        };
        let live = get_list(&live, "rows")?.iter().find(has_same_key);
        let live = live.ok_or_else(|| format!("the live report has no {row}"))?;
        for field in ["count", "open", "untimed"] {
            ensure_equal(field, get_number(row, field)?, get_number(live, field)?)?;
        }
        if get_number(row, "vmm_ns")? * 2 > get_number(row, "total_ns")? {
            for field in ["total_ns", "vmm_ns"] {
                let (recorded, live) = (get_number(row, field)?, get_number(live, field)?);
                ensure(recorded.abs_diff(live) * 20 < live, || {
                    format!("{field}: recorded {recorded}, live {live}: {row}")
                })?;
            }
        }
    }
    Ok(())
}

fn own_recording_equals_perf() -> Result<(), Failed> {
    let file = TempFile::new("ours");
    let file = file.arg()?;
    let guest = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let record = RunningCollector::start(&["record", "-e", EVENTS, "-p", &pid, "-o", file])?;
    guest.run()?;
    record.end()?.expect_code(0)?;
    compare_with_perf(file, &pid)
}

fn perf_recording_equals_perf() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let perf = Recording::start()?;
    guest.run()?;
    compare_with_perf(&perf.end()?.path(), &pid)
}

/// Fails unless `exits` and perf have the same counts and times for a recording. Both time the same events, so they may
/// differ only by perf's rounding.
fn compare_with_perf(file: &str, pid: &str) -> Result<(), Failed> {
    let theirs = run_report(file, VMEXIT, pid)?;
    let ours = run_collector(&["exits", "-i", file, "--json", "-p", pid])?.expect_code(0)?;
    let ours = ours.report()?;
    ensure_nothing_lost(&ours)?;
    let mut compared = 0;
    for row in get_list(&ours, "rows")? {
        let count = get_number(row, "count")? - get_number(row, "open")?;
        if count == 0 {
            continue;
        }
        let name = row["reason"].as_str().ok_or("no reason")?;
        let Some(Row {
            count: theirs,
            min_us,
            max_us,
            mean_us,
        }) = theirs.get(name)
        else {
            return Err(format!("perf has no {name}").into());
        };
        ensure_equal(&format!("exits for {name}"), count, *theirs)?;
        for (field, theirs) in [("min_ns", min_us), ("max_ns", max_us), ("mean_ns", mean_us)] {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ours = get_number(row, field)? as f64 / 1000.0;
            // perf prints two decimals, and our mean is in whole nanoseconds.
            ensure((ours - theirs).abs() <= 0.0101, || {
                format!("{field} of {name}: ours {ours} us, perf {theirs} us")
            })?;
        }
        compared += 1;
    }
    ensure_equal("reasons", compared, theirs.len())?;
    ensure(compared >= 5, || {
        format!("only {compared} reasons were compared")
    })?;
    Shown::Perf.print(get_number(&ours, "count")?);
    Ok(())
}
