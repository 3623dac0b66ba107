//! The preempted time is the same live and in a recording.

use std::collections::BTreeMap;

use libtest_mimic::Failed;
use serde_json::Value;

use super::{
    RECORDED,
    compare::{compare_losses, ensure_close, row_key},
};
use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    exit_time_parts::BusyThread,
    guest::Guest,
    process::run_collector,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// A guest competes with a busy thread for its CPU.
pub(super) fn live_preempted_time_equals_recorded() -> Result<(), Failed> {
    let folder = TempDir::new("live-and-recorded-preempted")?;
    let file = folder.file("kvm.data");
    let busy = BusyThread::start(1)?;
    let guest = Guest::prepare(&["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"])?;
    let pid = guest.pid.clone();
    let options = ["exits", "--preempt", "--json", "--by", "vm,vcpu,reason"];
    let selectors = [["-p", &pid], ["--vcpu", "0"]];
    let record = RunningCollector::start(&["record", "--strict", "-e", RECORDED, "-o", &file])?;
    let mut live = Vec::new();
    for selector in selectors {
        live.push(RunningCollector::start(
            &[&options[..], &selector].concat(),
        )?);
    }
    guest.run()?;
    drop(busy);
    record.end()?.expect_code(0)?;
    for (selector, live) in selectors.into_iter().zip(live) {
        let live = live.end()?.expect_code(0)?.report()?;
        let from_file = [&options[..], &selector, &["-i", &file]].concat();
        let recorded = run_collector(&from_file)?.expect_code(0)?.report()?;
        let name = format!("{selector:?}");
        let rows = |report: &Value| {
            let rows = get_list(report, "rows")?.iter();
            let rows = rows.map(|row| {
                Ok((
                    row_key(row),
                    (get_number(row, "count")?, get_number(row, "open")?),
                ))
            });
            rows.collect::<Result<BTreeMap<_, _>, Failed>>()
        };
        ensure_equal(&name, rows(&recorded)?, rows(&live)?)?;
        compare_losses(&live, &recorded, false)?;
        let [of_live, of_recorded] = [&live, &recorded].map(|report| get_list(report, "vcpus"));
        let ([of_live], [of_recorded]) = (of_live?, of_recorded?) else {
            return Err(format!("{name}: not one vCPU: {live} {recorded}").into());
        };
        ensure(get_number(of_live, "preempted_ns")? > 100_000_000, || {
            format!("{name}: the vCPU was hardly preempted: {of_live}")
        })?;
        for field in ["preempted_ns", "guest_ns"] {
            ensure_close(&format!("{name}: {field}"), of_recorded, of_live, field)?;
        }
    }
    Ok(())
}
