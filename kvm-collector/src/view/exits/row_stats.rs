//! The numbers of a row that are compared, by an id that is the same in another run.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde::Deserialize;

use super::{host_rates::RowRates, row::ExitRow};

/// Identifies a row by names that are the same in another run. PIDs and TIDs are not, so a PID is part of the id only if VMs
/// have the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowId {
    /// Name of the VM; for a VM without a name, the program of its VMM.
    pub vm: Option<String>,
    /// PID of the VMM, until [`remove_unneeded_pids`] is called; then only if several VMs have the name.
    pub pid: Option<u32>,
    /// Index of the vCPU; `None` also if it is not known.
    pub vcpu: Option<u32>,
    /// Exit reason.
    pub reason: Option<String>,
    /// Label of the counted event.
    pub key: Option<String>,
}

/// The numbers of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RowStats {
    /// Known name of the number in the label.
    pub key_name: Option<String>,
    /// Number of exits.
    pub count: u64,
    /// Exits and their time per second.
    pub rates: RowRates,
    /// Mean duration; `None` if no exit has a duration.
    pub mean_ns: Option<u64>,
    /// 99th percentile; `None` also after a merge, because percentiles cannot be merged.
    pub p99_ns: Option<u64>,
}

impl RowStats {
    /// Merges the numbers of another row with the same id.
    fn merge(&mut self, other: Self) {
        let weighted = [(self.mean_ns, self.count), (other.mean_ns, other.count)]
            .into_iter()
            .filter_map(|(mean_ns, count)| Some((u128::from(mean_ns?), u128::from(count))));
        let (sum, count) = weighted.fold((0_u128, 0_u128), |(sum, all), (mean_ns, count)| {
            (
                sum.saturating_add(mean_ns.saturating_mul(count)),
                all + count,
            )
        });
        self.mean_ns = sum
            .checked_div(count)
            .and_then(|mean_ns| u64::try_from(mean_ns).ok());
        self.count = self.count.saturating_add(other.count);
        self.rates = self.rates.plus(other.rates);
        self.p99_ns = None;
    }
}

/// Removes the PID from the name of a VM that is called after its program and PID.
fn stable_vm_name(vm: &str, pid: Option<u32>) -> String {
    let program = pid.and_then(|pid| vm.strip_suffix(&format!("-{pid}")));
    program.unwrap_or(vm).to_owned()
}

/// A row of a report that is compared. The aliases are the names in version 1 of the JSON reports.
#[derive(Debug, Deserialize)]
pub(super) struct ComparedRow {
    pub vm: Option<String>,
    pub pid: Option<u32>,
    pub vcpu: Option<u32>,
    pub tid: Option<u32>,
    pub reason: Option<String>,
    pub key: Option<String>,
    #[serde(alias = "name")]
    pub key_name: Option<String>,
    pub count: u64,
    pub rate_per_s: Option<f64>,
    pub total_ns_per_s: Option<u64>,
    pub cost_ns_per_s: Option<u64>,
    #[serde(alias = "time_ns")]
    pub total_ns: u64,
    #[serde(default)]
    pub idle_ns: u64,
    pub mean_ns: u64,
    pub p99_ns: u64,
}

impl ComparedRow {
    /// `elapsed_ns` is the time of the report, from which the rates follow unless the row has them.
    fn into_stats(self, elapsed_ns: u64) -> (RowId, RowStats) {
        let cost_ns = self.total_ns.saturating_sub(self.idle_ns);
        let rates = RowRates::new(self.count, self.total_ns, cost_ns, elapsed_ns);
        let rates = RowRates {
            rate_per_s: self.rate_per_s.unwrap_or(rates.rate_per_s),
            total_ns_per_s: self.total_ns_per_s.unwrap_or(rates.total_ns_per_s),
            cost_ns_per_s: self.cost_ns_per_s.unwrap_or(rates.cost_ns_per_s),
        };
        let id = RowId {
            vm: self.vm.map(|vm| stable_vm_name(&vm, self.pid)),
            pid: self.pid,
            vcpu: self.vcpu,
            reason: self.reason,
            key: self.key,
        };
        let is_timed = self.total_ns > 0;
        let stats = RowStats {
            key_name: self.key_name,
            count: self.count,
            rates,
            mean_ns: is_timed.then_some(self.mean_ns),
            p99_ns: is_timed.then_some(self.p99_ns),
        };
        (id, stats)
    }
}

impl From<&ExitRow> for ComparedRow {
    fn from(row: &ExitRow) -> Self {
        Self {
            vm: row.vm.clone(),
            pid: row.pid,
            vcpu: row.vcpu,
            tid: row.tid,
            reason: row.reason.clone(),
            key: row.key.clone(),
            key_name: row.key_name.clone(),
            count: row.count,
            rate_per_s: row.rates.map(|it| it.rate_per_s),
            total_ns_per_s: row.rates.map(|it| it.total_ns_per_s),
            cost_ns_per_s: row.rates.map(|it| it.cost_ns_per_s),
            total_ns: row.total_ns,
            idle_ns: row.idle_ns,
            mean_ns: row.mean_ns,
            p99_ns: row.p99_ns,
        }
    }
}

/// Returns the numbers of the rows of a report by id, with PIDs. Rows with the same id are merged: those of vCPUs with an unknown
/// index. `elapsed_ns` is the time of the report.
pub(super) fn stats_by_row(
    rows: impl IntoIterator<Item = impl Into<ComparedRow>>,
    elapsed_ns: u64,
) -> BTreeMap<RowId, RowStats> {
    let rows = rows.into_iter().map(Into::into);
    merge_by_id(rows.map(|row: ComparedRow| row.into_stats(elapsed_ns)))
}

/// Removes the PIDs of VMs that are the only ones with their names in each of the reports: they are found in the other report by
/// the name, even if they were started again. VMs with the same name stay different rows, which are found by the PID.
pub(super) fn remove_unneeded_pids<const REPORTS: usize>(
    reports: [&BTreeMap<RowId, RowStats>; REPORTS],
) -> [BTreeMap<RowId, RowStats>; REPORTS] {
    let mut ambiguous: BTreeSet<&str> = BTreeSet::new();
    for rows in reports {
        let mut pids: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        for id in rows.keys() {
            let Some(vm) = id.vm.as_deref() else { continue };
            if *pids.entry(vm).or_insert(id.pid) != id.pid {
                ambiguous.insert(vm);
            }
        }
    }
    reports.map(|rows| {
        merge_by_id(rows.iter().map(|(id, stats)| {
            let mut id = id.clone();
            id.pid = id
                .pid
                .filter(|_| id.vm.as_deref().is_some_and(|vm| ambiguous.contains(vm)));
            (id, stats.clone())
        }))
    })
}

/// Collects rows by id, and merges those with the same id.
pub(super) fn merge_by_id(
    rows: impl IntoIterator<Item = (RowId, RowStats)>,
) -> BTreeMap<RowId, RowStats> {
    let mut all = BTreeMap::new();
    for (id, stats) in rows {
        match all.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(stats);
            }
            Entry::Occupied(mut entry) => entry.get_mut().merge(stats),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pid and the count of each row, from the pids and counts of VMs with one name in two reports.
    fn compared(before: &[(u32, u64)], now: &[(u32, u64)]) -> [Vec<(Option<u32>, u64)>; 2] {
        let rows = |vms: &[(u32, u64)]| {
            merge_by_id(vms.iter().map(|(pid, count)| {
                let id = RowId {
                    vm: Some("web".into()),
                    pid: Some(*pid),
                    ..RowId::default()
                };
                let stats = RowStats {
                    count: *count,
                    ..RowStats::default()
                };
                (id, stats)
            }))
        };
        remove_unneeded_pids([&rows(before), &rows(now)]).map(|rows| {
            let ids = rows.iter().map(|(id, stats)| (id.pid, stats.count));
            ids.collect()
        })
    }

    #[test]
    fn a_vm_that_was_started_again_is_the_same_row() {
        assert_eq!(compared(&[(7, 1)], &[(8, 2)]), [[(None, 1)], [(None, 2)]]);
    }

    #[test]
    fn vms_of_the_same_name_stay_different_rows() {
        assert_eq!(
            compared(&[(7, 1)], &[(7, 2), (8, 3)]),
            [vec![(Some(7), 1)], vec![(Some(7), 2), (Some(8), 3)]]
        );
        assert_eq!(
            compared(&[(7, 1), (8, 2)], &[]),
            [vec![(Some(7), 1), (Some(8), 2)], vec![]]
        );
    }

    #[test]
    fn the_pid_is_removed_from_the_name_of_a_vm_without_a_name() {
        assert_eq!(
            stable_vm_name("qemu-system-x86-158", Some(158)),
            "qemu-system-x86"
        );
        assert_eq!(stable_vm_name("web-158", Some(7)), "web-158");
        assert_eq!(stable_vm_name("web", None), "web");
    }
}
