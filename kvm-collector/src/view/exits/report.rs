//! The `exits` report: turns groups of exits into sorted rows with totals.

use serde::Serialize;

use super::{
    advice::AdviceFinder,
    groups::{ExitGroups, GroupKey},
    hot_rows::HotRowDetector,
    labels::RowLabels,
    names::KeyNames,
    options::{ExitsOptions, SortKey},
    row::{ExitRow, exit_row},
    vcpu_row::{VcpuRow, vcpu_rows},
    vcpu_time::VcpuTime,
};
use crate::{
    host::IdleVm,
    model::{ExitTotals, Loss, VMEXIT, VmName},
};

/// Exits in a time interval, by group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExitsReport {
    /// Always `exits`.
    pub view: &'static str,
    /// What is counted: `vmexit`, or another kind of event.
    pub kind: String,
    /// The grouping of the rows: `host`, `vm`, `vcpu`, `reason`.
    pub by: Vec<&'static str>,
    /// Start of the interval, in ns since the start of the measurement.
    pub start_ns: u64,
    /// Length of the interval.
    pub elapsed_ns: u64,
    /// Number of exits in all rows, including those that `--top` hides.
    pub count: u64,
    /// Total duration of these exits.
    pub total_ns: u64,
    /// Part of `total_ns` during which the guests were idle.
    pub idle_ns: u64,
    /// Part of `total_ns` during which the vCPUs were halted in the kernel.
    pub halted_ns: u64,
    /// Longest duration of these exits.
    pub max_ns: u64,
    /// Number of exits whose start or end was not seen. They have no duration.
    pub untimed: u64,
    /// Number of rows, including those that `--top` hides.
    pub row_count: usize,
    /// The rows.
    pub rows: Vec<ExitRow>,
    /// Where the time of each vCPU went.
    pub vcpus: Vec<VcpuRow>,
    /// The running VMs without exits in the interval; `None` if they are unknown, as in a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vms_without_exits: Option<Vec<IdleVm>>,
    /// Whether preempted time was measured: with `--preempt`, and if a recording has `sched_switch`.
    pub preempt_watched: bool,
    /// Number of exits in progress at the end of the interval. They have no duration.
    pub open: u64,
    /// Lost or incomplete data.
    pub loss: Loss,
}

impl ExitsReport {
    /// Creates a report on groups of exits in an interval. The times are in ns since the start of the
    /// measurement.
    #[must_use]
    pub fn from_groups(
        groups: &ExitGroups,
        (start_ns, end_ns): (u64, u64),
        loss: Loss,
        options: &ExitsOptions,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> VmName,
    ) -> Self {
        let labels = RowLabels::OneHost {
            host: None,
            vm_name,
        };
        Self::with_labels(groups, (start_ns, end_ns), loss, options, names, labels)
    }

    /// As [`ExitsReport::from_groups`], with the names of hosts and VMs in `labels`.
    #[must_use]
    pub fn with_labels(
        groups: &ExitGroups,
        (start_ns, end_ns): (u64, u64),
        loss: Loss,
        options: &ExitsOptions,
        names: &KeyNames<'_>,
        labels: RowLabels<'_>,
    ) -> Self {
        let mut all = ExitTotals::default();
        let mut all_idle_ns = 0;
        let elapsed_ns = end_ns.saturating_sub(start_ns);
        // Exits of one of several recordings' hosts were counted in the time of that host.
        let elapsed_of = |key: &GroupKey| labels.elapsed_ns(key).unwrap_or(elapsed_ns);
        let mut hot_rows = HotRowDetector::default();
        let vcpu_time = VcpuTime::new(groups, elapsed_of, names);
        let mut advice = AdviceFinder::default();
        for (key, group) in groups.iter() {
            let totals = &group.totals;
            let idle_ns = group.idle_ns;
            all.merge(totals);
            all_idle_ns = u64::saturating_add(all_idle_ns, idle_ns);
            hot_rows.add_row(key, totals.count, totals.total_ns.saturating_sub(idle_ns));
            if options.advice {
                advice.add(key, group);
            }
        }
        let mut rows: Vec<_> = groups
            .iter()
            .map(|(key, group)| {
                let mut row = exit_row(key, group, (&all, all_idle_ns), options, names, labels);
                let cost_ns = row.total_ns.saturating_sub(row.idle_ns);
                let is_hot = || {
                    let cost = (row.count, cost_ns);
                    hot_rows.is_hot(key, cost, elapsed_of(key), vcpu_time.of(key))
                };
                if options.advice && is_hot() {
                    (row.advice, row.evidence) = advice.find((key, group), names, &vcpu_time);
                }
                row
            })
            .collect();
        sort(&mut rows, options.sort);
        let row_count = rows.len();
        rows.truncate(options.top.unwrap_or(usize::MAX));
        Self {
            view: "exits",
            kind: names
                .counted_event
                .map_or_else(|| VMEXIT.to_owned(), |(kind, _)| kind.name.clone()),
            by: labels
                .has_hosts()
                .then_some("host")
                .into_iter()
                .chain(groups.by().iter().map(|group| group.name()))
                .collect(),
            start_ns,
            elapsed_ns,
            count: all.count,
            total_ns: all.total_ns,
            idle_ns: all_idle_ns,
            halted_ns: all.halted_ns,
            max_ns: all.extremes.max_ns,
            untimed: all.untimed,
            row_count,
            rows,
            vcpus: vcpu_rows(groups, labels, options.preempt_watched),
            vms_without_exits: None,
            preempt_watched: options.preempt_watched,
            open: all.open,
            loss,
        }
    }
}

impl ExitsReport {
    /// Returns whether a vCPU of a process made exits in the interval, of any reason.
    #[must_use]
    pub fn has_exits_of(&self, pid: u32) -> bool {
        self.vcpus
            .iter()
            .any(|vcpu| vcpu.pid == pid && vcpu.count > 0)
    }
}

fn sort(rows: &mut [ExitRow], key: SortKey) {
    let by =
        |number: fn(&ExitRow) -> u64| move |a: &ExitRow, b: &ExitRow| number(b).cmp(&number(a));
    let percentile_ns = |row: &ExitRow, index: usize| row.percentiles.get(index).map(|it| it.ns);
    // The groups are sorted by host, VM, vCPU and code. The sort is stable, so equal rows keep this order.
    match key {
        SortKey::Count => rows.sort_by(by(|row| row.count)),
        SortKey::Time => rows.sort_by(by(|row| row.total_ns)),
        SortKey::Cost => rows.sort_by(by(|row| row.total_ns.saturating_sub(row.idle_ns))),
        SortKey::Min => rows.sort_by(by(|row| row.min_ns)),
        SortKey::Mean => rows.sort_by(by(|row| row.mean_ns)),
        SortKey::Max => rows.sort_by(by(|row| row.max_ns)),
        SortKey::P50 => rows.sort_by(by(|row| row.p50_ns)),
        SortKey::P99 => rows.sort_by(by(|row| row.p99_ns)),
        SortKey::Percentile(index) => {
            rows.sort_by_key(|row| std::cmp::Reverse(percentile_ns(row, index)));
        }
        SortKey::Name => rows.sort_by(|a, b| {
            let name = |row: &ExitRow| {
                let (vm, reason, key) = (row.vm.clone(), row.reason.clone(), row.key.clone());
                (row.host.clone(), vm, row.vcpu, row.tid, reason, key)
            };
            name(a).cmp(&name(b))
        }),
    }
}
