//! Comparison of a live report with the report of a recording.

use std::collections::{BTreeMap, BTreeSet};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::check::{LOSSES, ensure, ensure_equal, get_list, get_number};

/// The maximum difference between the times of two collectors, each of which reads the clock itself.
const TOLERANCE_PERCENT: u64 = 5;

/// Fails unless two reports have the same losses. A recording does not contain the number of missed events. If vCPUs of all
/// processes are selected, other processes cause unattributed events before the guests start and after they have ended.
pub(super) fn compare_losses(
    live: &Value,
    recorded: &Value,
    of_all_processes: bool,
) -> Result<(), Failed> {
    let is_compared = |kind: &&str| match *kind {
        "missed" => false,
        "unattributed" => !of_all_processes,
        _ => true,
    };
    for kind in LOSSES.into_iter().filter(is_compared) {
        ensure_equal(
            kind,
            get_number(&recorded["loss"], kind)?,
            get_number(&live["loss"], kind)?,
        )?;
    }
    Ok(())
}

/// Fails unless two reports of `stat` have the same counts of each event, for each VM and in total.
pub(super) fn compare_counts(
    live: &Value,
    recorded: &Value,
    pids: &[&str],
    selects_nothing: bool,
) -> Result<(), Failed> {
    let counts = |report: &Value| {
        let mut all = BTreeMap::new();
        for event in get_list(report, "events")? {
            all.insert(event["event"].to_string(), get_number(event, "count")?);
        }
        let mut counts = BTreeMap::new();
        let mut vm_pids = BTreeSet::new();
        let mut others = all.clone();
        for vm in get_list(report, "vms")? {
            let pid = vm["pid"].to_string();
            for event in get_list(vm, "events")? {
                let (name, count) = (event["event"].to_string(), get_number(event, "count")?);
                if let Some(rest) = others.get_mut(&name) {
                    *rest = rest
                        .checked_sub(count)
                        .ok_or("VMs have more events than the total")?;
                }
                counts.insert(format!("{} {pid} {name}", vm["vm"]), count);
            }
            vm_pids.insert(pid);
        }
        if selects_nothing {
            // Before the guests start and after they have ended, there are events of other processes, which are in the totals only.
            all.clear();
        }
        counts.extend(all.into_iter().filter(|(_, count)| *count > 0));
        let expected = pids.iter().map(|pid| (*pid).to_owned()).collect();
        ensure_equal("processes", vm_pids, expected)?;
        Ok::<_, Failed>(counts)
    };
    let (live, recorded) = (counts(live)?, counts(recorded)?);
    ensure(live.len() > 10, || format!("too few events: {live:?}"))?;
    for (key, count) in live.iter().chain(&recorded) {
        let counts = (live.get(key), recorded.get(key));
        ensure(counts == (Some(count), Some(count)), || {
            format!("{key:?}: live and recorded {counts:?}")
        })?;
    }
    Ok(())
}

/// Fails unless two reports of `exits` have the same exits of each VM, vCPU and reason.
pub(super) fn compare_exits(
    live: &Value,
    recorded: &Value,
    pids: &[&str],
    _: bool,
) -> Result<(), Failed> {
    let rows = |report: &Value| {
        let rows = get_list(report, "rows")?.iter();
        let rows: BTreeMap<_, _> = rows.map(|row| (row_key(row), row.clone())).collect();
        let processes: BTreeSet<_> = rows.values().map(|row| row["pid"].to_string()).collect();
        let expected: BTreeSet<_> = pids.iter().map(|pid| (*pid).to_owned()).collect();
        ensure_equal("processes", processes, expected)?;
        Ok::<_, Failed>(rows)
    };
    let (live, recorded) = (rows(live)?, rows(recorded)?);
    let keys = |rows: &BTreeMap<String, Value>| rows.keys().cloned().collect::<Vec<_>>();
    ensure_equal("rows", keys(&recorded), keys(&live))?;
    let mut long = 0;
    for (row, live) in recorded.values().zip(live.values()) {
        for field in ["count", "open", "untimed"] {
            let name = format!("{field} of {}", row_key(row));
            ensure_equal(&name, get_number(row, field)?, get_number(live, field)?)?;
        }
        // The times are compared for exits in which user space sleeps. The work of the other collectors is small compared
        // with them.
        if get_number(live, "vmm_ns")? * 2 > get_number(live, "total_ns")? {
            for field in ["total_ns", "vmm_ns"] {
                ensure_close(&format!("{field} of {}", row_key(row)), row, live, field)?;
            }
            long += 1;
        }
    }
    ensure(long > 0, || "no long exits".into())
}

pub(super) fn row_key(row: &Value) -> String {
    let key = ["vm", "pid", "vcpu", "reason", "key"].map(|name| row[name].to_string());
    key.join(" ")
}

/// Fails if a time of two rows or vCPUs differs by more than [`TOLERANCE_PERCENT`].
pub(super) fn ensure_close(
    name: &str,
    recorded: &Value,
    live: &Value,
    field: &str,
) -> Result<(), Failed> {
    let (recorded, live) = (get_number(recorded, field)?, get_number(live, field)?);
    ensure(
        recorded.abs_diff(live) * 100 <= live * TOLERANCE_PERCENT,
        || format!("{name}: recorded {recorded}, live {live}"),
    )
}
