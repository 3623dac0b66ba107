//! Counts and times of the collector equal those of ftrace in the same run.

use std::collections::{BTreeMap, HashMap};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::{self, KINDS, PROBE_US, REASON_FIELD},
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    counts::event_count,
    exit_reasons,
    exits::{REQUIREMENTS, counts_by_code},
    ftrace_instance::FtraceInstance,
    guest::Guest,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    support::Shown,
};

const WITH_HIST_TRIGGERS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::HistTriggers,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "counts_equal_hist_triggers",
            WITH_HIST_TRIGGERS,
            counts_agree,
        ),
        test("times_equal_ftrace", REQUIREMENTS, times_agree),
    ]
}

fn counts_agree() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "2000", "--vcpus", "2"])?;
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("kvm/kvm_exit", &format!("common_pid,{REASON_FIELD}"))?;
    oracle.add_histogram("kvm/kvm_entry", "common_pid")?;
    let exits = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let stat = RunningCollector::start(&[
        "stat",
        "--json",
        "-e",
        "kvm_exit,kvm_entry",
        "-p",
        &guest.pid,
    ])?;
    let tids = guest.tids.clone();
    guest.run()?;
    let exits = exits.end()?.expect_code(0)?.report()?;
    let stat = stat.end()?.expect_code(0)?.report()?;

    let mut reasons = BTreeMap::new();
    for (keys, count) in oracle.read_histogram("kvm/kvm_exit", &["common_pid", REASON_FIELD])? {
        if tids.iter().any(|tid| u64::from(*tid) == keys[0]) {
            *reasons.entry(keys[1]).or_default() += count;
        }
    }
    let all: u64 = reasons.values().sum();
    ensure(all >= 2 * KINDS.split(',').count() as u64 * 2000, || {
        format!("too few exits: {all}")
    })?;
    // The exits that the host causes by interrupts are included, since ftrace counts them as well.
    ensure_equal("exits per reason", counts_by_code(&exits)?, reasons)?;
    ensure_nothing_lost(&exits)?;
    ensure_equal("kvm_exit of stat", event_count(&stat, "kvm:kvm_exit")?, all)?;
    ensure_equal(
        "kvm_entry of stat",
        event_count(&stat, "kvm:kvm_entry")?,
        oracle.count_in_threads("kvm/kvm_entry", &tids)?,
    )?;
    ensure_nothing_lost(&stat)?;
    Shown::Counts.print(all);
    Ok(())
}

/// The mean duration from which the overhead of two tools is negligible.
const LONG_US: f64 = 200.0;

/// Fails unless the times of exits with one reason agree: the medians of all exits, and the means of long ones. A few short exits
/// that the host interrupts between the two probes change their mean, but not the median, which is accurate to 5 %.
fn compare_times(code: u64, row: &Value, theirs_us: &mut [u64]) -> Result<f64, Failed> {
    theirs_us.sort_unstable();
    let timed = theirs_us.len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (mean, their_mean, median, their_median) = (
        get_number(row, "total_ns")? as f64 / timed as f64 / 1000.0,
        theirs_us.iter().sum::<u64>() as f64 / timed as f64,
        get_number(row, "p50_ns")? as f64 / 1000.0,
        theirs_us[timed / 2] as f64,
    );
    println!(
        "times: reason {code:#x}: {timed} exits, mean {mean:.2} us, ftrace {their_mean:.2} us, median {median:.2} us, \
         ftrace {their_median} us"
    );
    let is_near =
        |ours: f64, theirs: f64, more_us| (ours - theirs).abs() <= 0.05 * theirs + more_us;
    ensure(is_near(median, their_median, PROBE_US), || {
        format!("the medians of reason {code:#x} differ: {median:.2} us, ftrace {their_median} us")
    })?;
    ensure(
        their_mean < LONG_US || is_near(mean, their_mean, 0.0),
        || format!("the means of reason {code:#x} differ: {mean:.2} us, ftrace {their_mean:.2} us"),
    )?;
    Ok(their_mean)
}

fn times_agree() -> Result<(), Failed> {
    // With the sleep, exits to user space take at least 200 us. The kernel handles the others.
    let guest = Guest::prepare(&["-k", KINDS, "-n", "1500", "--sleep", "200us"])?;
    // The collector attaches first, so its times do not include the longer work of ftrace.
    let collector = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let mut oracle = FtraceInstance::new()?;
    oracle.start_recording(&["kvm/kvm_exit", "kvm/kvm_entry"], &guest.tids, 16 << 10)?;
    guest.run()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;

    let mut expected: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut open: HashMap<u32, (u64, u64)> = HashMap::new();
    for line in oracle.read_events()? {
        if line.event == "kvm_exit" {
            let code = reason_in(&line.text)?;
            let before = open.insert(line.tid, (line.time_us, code));
            ensure(before.is_none(), || format!("two exits in a row: {line:?}"))?;
        } else if let Some((start_us, code)) = open.remove(&line.tid) {
            let times = expected.entry(code).or_default();
            times.push(line.time_us - start_us);
        }
    }
    let (mut long, mut compared) = (0, 0);
    println!();
    for row in get_list(&report, "rows")? {
        let code = get_number(row, "reason_code")?;
        let mut times = expected.remove(&code).unwrap_or_default();
        let timed = get_number(row, "count")? - get_number(row, "open")?;
        ensure_equal("exits with an entry", timed, times.len() as u64)?;
        if timed < 1000 {
            // Too few for a mean. These are interrupts.
            continue;
        }
        long += u32::from(compare_times(code, row, &mut times)? >= LONG_US);
        compared += timed;
    }
    ensure(long >= 1, || format!("only {long} reasons with long exits"))?;
    ensure(expected.is_empty(), || {
        format!("exits that only ftrace counted: {expected:?}")
    })?;
    Shown::Times.print(compared);
    Ok(())
}

/// Returns the code of the exit reason in the text of a `kvm_exit`.
fn reason_in(text: &str) -> Result<u64, Failed> {
    let name = arch::reason_in_text(text).ok_or_else(|| format!("no reason in `{text}`"))?;
    exit_reasons::reason_code(name)
}
