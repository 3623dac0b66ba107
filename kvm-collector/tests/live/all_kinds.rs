//! All exits that the built-in guest can cause are counted exactly: the guest, ftrace's hist trigger and `exits` agree for each
//! reason.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};

use crate::{
    arch::{KINDS_WITHOUT_INTERRUPTS, MIN_REASONS, OPTIONAL_REASONS, REASON_FIELD},
    check::{ensure, ensure_equal, ensure_nothing_lost},
    exit_reasons,
    exits::{REQUIREMENTS, counts_by_code},
    ftrace_instance::FtraceInstance,
    guest::Guest,
    requirements::{has_hist_triggers, test},
    running_collector::RunningCollector,
    support::Shown,
};

/// Number of rounds.
const ROUNDS: &str = "50";

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "all_reasons_equal_the_guest_and_hist_triggers",
        REQUIREMENTS,
        all_reasons,
    )]
}

fn all_reasons() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS_WITHOUT_INTERRUPTS, "-n", ROUNDS])?;
    let mut oracle = FtraceInstance::new()?;
    if has_hist_triggers() {
        oracle.add_histogram("kvm/kvm_exit", &format!("common_pid,{REASON_FIELD}"))?;
    }
    let collector = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let tids = guest.tids.clone();
    let mut expected = guest.run()?.exits()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let counted = counts_by_code(&report)?;

    let all = counted.values().sum();
    println!("\nall_reasons: {all} exits with {} reasons", counted.len());
    if has_hist_triggers() {
        // The exits that the host causes by interrupts are included, since ftrace counts them as well.
        let hist = counts_of_threads(&oracle, &tids)?;
        ensure_equal("exits per reason, by ftrace", &counted, &hist)?;
    }
    // Whether these instructions cause exits depends on the kernel.
    expected.retain(|code, _| counted.contains_key(code) || !OPTIONAL_REASONS.contains(code));
    ensure(expected.len() >= MIN_REASONS, || {
        format!("too few reasons: {expected:?}")
    })?;
    ensure_equal(
        "exits per reason, by the guest",
        exit_reasons::without_host_exits(counted),
        expected,
    )?;
    Shown::Counts.print(all);
    Ok(())
}

/// Returns ftrace's counts of the exits of these threads, by reason.
fn counts_of_threads(oracle: &FtraceInstance, tids: &[u32]) -> Result<BTreeMap<u64, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for (keys, count) in oracle.read_histogram("kvm/kvm_exit", &["common_pid", REASON_FIELD])? {
        if tids.iter().any(|tid| u64::from(*tid) == keys[0]) {
            *counts.entry(keys[1]).or_default() += count;
        }
    }
    Ok(counts)
}
