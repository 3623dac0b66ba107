//! The intervals of live and recorded events add up to the total.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    check::{LOSSES, ensure, ensure_equal, get_list, get_number, get_part},
    guest::Guest,
    process::{FinishedProcess, run_collector},
    temp_files::TempDir,
};

/// The fields of a row that add up over all intervals to the total.
const SUMMED_FIELDS: [&str; 7] = [
    "count",
    "untimed",
    "total_ns",
    "kernel_ns",
    "vmm_ns",
    "halted_ns",
    "preempted_ns",
];

pub(super) fn intervals() -> Result<(), Failed> {
    let folder = TempDir::new("live-and-recorded-intervals")?;
    let file = folder.file("kvm.data");
    let mut guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "100000", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    guest.start()?;
    let record = ["record", "-p", &pid, "-d", "1s", "-o", &file];
    run_collector(
        &[
            &record[..],
            &["-e", "kvm_exit,kvm_entry,kvm_userspace_exit"],
        ]
        .concat(),
    )?
    .expect_code(0)?;
    let source = ["-i", &file];
    for source in [&["-d", "1s"][..], &source] {
        for command in ["exits", "stat"] {
            let args = [command, "--json", "-I", "300ms", "-p", &pid];
            let output = run_collector(&[&args[..], source].concat())?.expect_code(0)?;
            check_intervals(command, &output).map_err(|error| {
                format!("{command} {source:?}: {}", error.message().unwrap_or(""))
            })?;
        }
    }
    Ok(())
}

/// Fails unless there are three whole intervals and a shorter one that add up to the total.
fn check_intervals(command: &str, output: &FinishedProcess) -> Result<(), Failed> {
    let mut intervals = output.json()?;
    let total = intervals.pop().ok_or("no total")?;
    let lengths = intervals
        .iter()
        .map(|interval| get_number(interval, "elapsed_ns"));
    let lengths: Vec<_> = lengths.collect::<Result<_, _>>()?;
    ensure(
        lengths.len() == 4 && lengths[3] < 300_000_000 && lengths[3] < lengths[0],
        || format!("not three whole intervals and a shorter one: {lengths:?}"),
    )?;
    let elapsed = get_number(&total, "elapsed_ns")?;
    ensure_equal("elapsed", lengths.iter().sum::<u64>(), elapsed)?;
    let sums = |reports: &[Value]| {
        let mut sums: BTreeMap<(String, &str), u64> = BTreeMap::new();
        for report in reports {
            for kind in LOSSES {
                let count = report["loss"][kind].as_u64().unwrap_or(0);
                *sums.entry(("loss".into(), kind)).or_default() += count;
            }
            if command == "stat" {
                for event in get_list(report, "events")? {
                    let key = (event["event"].to_string(), "count");
                    *sums.entry(key).or_default() += get_number(event, "count")?;
                }
                continue;
            }
            for row in get_list(report, "rows")? {
                for field in SUMMED_FIELDS {
                    let key = (row["reason"].to_string(), field);
                    *sums.entry(key).or_default() += get_part(row, field)?;
                }
            }
            for vcpu in get_list(report, "vcpus")? {
                let key = (format!("vCPU {}", vcpu["vcpu"]), "guest_ns");
                *sums.entry(key).or_default() += get_number(vcpu, "guest_ns")?;
            }
        }
        Ok::<_, Failed>(sums)
    };
    let (of_intervals, of_total) = (sums(&intervals)?, sums(&[total])?);
    for (key, sum) in &of_total {
        let got = of_intervals.get(key).copied().unwrap_or(0);
        ensure_equal(&format!("{key:?} of all intervals"), got, *sum)?;
    }
    ensure_equal("rows", of_intervals.len(), of_total.len())?;
    let all: u64 = of_total.values().sum();
    ensure(all > 1000, || format!("too few events: {of_total:?}"))
}
