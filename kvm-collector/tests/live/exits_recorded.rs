//! `exits -i`: from the same file, perf says the same; and so did `exits` live.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, equal, list, nothing_lost, number},
    exits::{REQUIREMENTS as EXIT_NEEDS, by_code},
    guest::Guest,
    perf::{Recording, Row, report_of},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const WITH_PERF: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Perf,
];

/// Exits of which each kind has a reason of its own.
const KINDS: &str = "io,cpuid,mmio,msr,hlt";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("exits_recorded_are_the_same_as_live", EXIT_NEEDS, as_live),
        test("exits_of_our_recording_are_perfs", WITH_PERF, of_ours),
        test("exits_of_perfs_recording_are_perfs", WITH_PERF, of_perfs),
    ]
}

/// A file that is removed in the end.
struct File(String);

impl File {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir();
        let name = format!("kvm-collector-{name}-{}.data", std::process::id());
        Self(dir.join(name).to_string_lossy().into_owned())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const EVENTS: &str = "kvm_exit,kvm_entry,kvm_userspace_exit,kvm_vcpu_wakeup";

fn as_live() -> Result<(), Failed> {
    let file = File::new("live");
    let guest = Guest::prepare(&["-k", KINDS, "-n", "300", "--vcpus", "2", "--sleep", "300us"])?;
    let pid = guest.pid.clone();
    let by = ["--by", "vm,vcpu,reason", "--json", "-p", &pid];
    let record = RunningCollector::start(&["record", "-e", EVENTS, "-p", &pid, "-o", &file.0])?;
    let live = RunningCollector::start(&[&["exits"], &by[..]].concat())?;
    guest.run()?;
    let live = live.end()?.expect_code(0)?.report()?;
    record.end()?.expect_code(0)?;
    let recorded = run_collector(&[&["exits", "-i", &file.0], &by[..]].concat())?.expect_code(0)?;
    let recorded = recorded.report()?;
    nothing_lost(&recorded)?;
    equal("exits per reason", by_code(&recorded)?, by_code(&live)?)?;
    equal(
        "rows",
        list(&recorded, "rows")?.len(),
        list(&live, "rows")?.len(),
    )?;
    // Each has its own clock readings, and measures the other's work at one end; of exits with a sleeping user space that is little.
    for row in list(&recorded, "rows")? {
        let same = |it: &&Value| {
            ["vm", "pid", "vcpu", "reason"]
                .iter()
                .all(|key| it[key] == row[key])
        };
        let live = list(&live, "rows")?.iter().find(same);
        let live = live.ok_or_else(|| format!("live there was no {row}"))?;
        for field in ["count", "open", "untimed"] {
            equal(field, number(row, field)?, number(live, field)?)?;
        }
        if number(row, "vmm_ns")? * 2 > number(row, "time_ns")? {
            for field in ["time_ns", "vmm_ns"] {
                let (recorded, live) = (number(row, field)?, number(live, field)?);
                ensure(recorded.abs_diff(live) * 20 < live, || {
                    format!("{field}: recorded {recorded}, live {live}: {row}")
                })?;
            }
        }
    }
    Ok(())
}

fn of_ours() -> Result<(), Failed> {
    let file = File::new("ours");
    let guest = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let record = RunningCollector::start(&["record", "-e", EVENTS, "-p", &pid, "-o", &file.0])?;
    guest.run()?;
    record.end()?.expect_code(0)?;
    same_as_perf(&file.0, &pid)
}

fn of_perfs() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let perf = Recording::begin()?;
    guest.run()?;
    same_as_perf(&perf.end()?.path(), &pid)
}

/// Both pair the same events, so nothing may differ but perf's rounding.
fn same_as_perf(file: &str, pid: &str) -> Result<(), Failed> {
    let theirs = report_of(file, "vmexit", pid)?;
    let ours = run_collector(&["exits", "-i", file, "--json", "-p", pid])?.expect_code(0)?;
    let ours = ours.report()?;
    nothing_lost(&ours)?;
    let mut compared = 0;
    for row in list(&ours, "rows")? {
        let count = number(row, "count")? - number(row, "open")?;
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
        equal(&format!("exits for {name}"), count, *theirs)?;
        for (field, theirs) in [("min_ns", min_us), ("max_ns", max_us), ("mean_ns", mean_us)] {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ours = number(row, field)? as f64 / 1000.0;
            // Two decimals, and our mean is whole nanoseconds.
            ensure((ours - theirs).abs() <= 0.0101, || {
                format!("{field} of {name}: ours {ours} us, perf's {theirs} us")
            })?;
        }
        compared += 1;
    }
    equal("reasons", compared, theirs.len())?;
    ensure(compared >= 5, || {
        format!("{compared} reasons: this tests too little")
    })
}
