//! Groups of exits as rows.

use kvm_ebpf_common::{BUCKETS, VCPU_UNKNOWN, bucket_start};
use serde::Serialize;

use super::{
    advice::advice,
    groups::{ExitGroups, GroupKey, Grouped},
    hot::Wholes,
    names::KeyNames,
};
use crate::{
    knowledge::advice::Advice,
    model::{ExitTotals, Loss, MinMax, VMEXIT, pid_of},
};

/// What rows are sorted by; the largest first, names alphabetically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// Exits.
    Count,
    /// Total time.
    Time,
    /// Time without being halted.
    Busy,
    /// Shortest time.
    Min,
    /// Mean time.
    Mean,
    /// Longest time.
    Max,
    /// Median time.
    P50,
    /// 99th percentile of the time.
    P99,
    /// VM, vCPU and reason.
    Name,
}

/// What is asked of the view.
#[derive(Debug, Clone)]
pub struct ExitsOptions {
    /// What comes first.
    pub sort: SortKey,
    /// Only so many rows; percentages are of all the same.
    pub top: Option<usize>,
    /// Only these reasons, by number.
    pub reasons: Option<Vec<u32>>,
    /// These percentiles.
    pub percentiles: Vec<f64>,
    /// Also the histograms.
    pub histograms: bool,
    /// So many causes of each row.
    pub causes: usize,
    /// Advice about what is worth it.
    pub advice: bool,
    /// It was watched when threads were ready and did not run.
    pub preempt_watched: bool,
}

/// One bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// The shortest time in it.
    pub from_ns: u64,
    /// The longest time in it and one; of the last bucket, `u64::MAX`.
    pub to_ns: u64,
    /// How many exits.
    pub count: u64,
}

/// One percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentile {
    /// Which.
    pub percent: f64,
    /// So many percent of the times are not longer; within 5 %.
    pub ns: u64,
}

/// One cause under a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What it is called.
    pub cause: String,
    /// What its number stands for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number that stands for it: an address, a port.
    pub code: u64,
    /// How often it was seen, at least.
    pub at_least: u64,
    /// How often it may have been seen at most.
    pub at_most: u64,
    /// Time of the exits that `at_least` counts.
    pub time_ns: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExitRow {
    /// The VM's name, or the best there is; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The VMM's process; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The vCPU's index; only if grouped by vCPU and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// The vCPU's thread; only if grouped by vCPU and its index is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Why; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason's number, unmasked; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<u32>,
    /// `kvm_exit.isa`: 1 = VMX, 2 = SVM; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<u32>,
    /// What, where another kind of event is counted than exits by their reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What its number stands for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its number: an address, a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// What else tells it apart: read or write, in or out, an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<u32>,
    /// Exits.
    pub count: u64,
    /// How many of them were not over at the end; they have no time.
    pub open: u64,
    /// How many of them have no time because their beginning or end was not seen.
    pub untimed: u64,
    /// Their part of all exits, 0 to 1.
    pub count_ratio: f64,
    /// Time from exit to next entry, summed.
    pub time_ns: u64,
    /// Its part of all time, 0 to 1.
    pub time_ratio: f64,
    /// The part of `time_ns` in which the guest was not idle, of that of all rows, 0 to 1.
    pub busy_ratio: f64,
    /// Of `time_ns`, idle: halted in the kernel, and with the VMM because of a halt.
    pub idle_ns: u64,
    /// Of `time_ns`, in the kernel and nothing of what follows.
    pub kernel_ns: u64,
    /// Of `time_ns`, in the VMM's user space.
    pub vmm_ns: u64,
    /// Of `time_ns`, halted in the kernel.
    pub halted_ns: u64,
    /// Of `time_ns`, ready but not running; 0 unless that was watched.
    pub preempted_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The median, within 5 %.
    pub p50_ns: u64,
    /// The 99th percentile, within 5 %.
    pub p99_ns: u64,
    /// The percentiles asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<Percentile>,
    /// The histogram from its first to its last bucket with any exit, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<Bucket>,
    /// The most frequent causes since the beginning, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// How often a cause that is not listed may have been seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_causes_at_most: Option<u64>,
    /// What is usually done about many of them, if asked for and if there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
}

impl ExitRow {
    /// Does any of its exits have a time? In an interval, one may that was counted before.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.time_ns > 0 || self.count > self.open.saturating_add(self.untimed)
    }
}

/// Where the time of a vCPU went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VcpuRow {
    /// The VM's name.
    pub vm: String,
    /// The VMM's process.
    pub pid: u32,
    /// Its index, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Its thread, where the index is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Its exits.
    pub count: u64,
    /// In the guest.
    pub guest_ns: u64,
    /// In the kernel on its behalf.
    pub kernel_ns: u64,
    /// In the VMM's user space.
    pub vmm_ns: u64,
    /// Halted.
    pub halted_ns: u64,
    /// Ready but not running; 0 unless that was watched.
    pub preempted_ns: u64,
    /// Out of the guest and not back at the end.
    pub open_ns: u64,
}

/// Where VM exits went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExitsReport {
    /// Always `exits`.
    pub view: &'static str,
    /// What is counted: `vmexit`, or another kind of event.
    pub kind: String,
    /// What rows are told apart by: `vm`, `vcpu`, `reason`.
    pub by: Vec<&'static str>,
    /// From the start of the measurement to the start of this report's time.
    pub start_ns: u64,
    /// How long this report's time is.
    pub elapsed_ns: u64,
    /// Exits in all rows, also those that `--top` leaves out.
    pub count: u64,
    /// Their time.
    pub time_ns: u64,
    /// Of it, idle.
    pub idle_ns: u64,
    /// Rows there are; `rows` may have fewer.
    pub row_count: usize,
    /// The rows.
    pub rows: Vec<ExitRow>,
    /// Where the time of each vCPU went.
    pub vcpus: Vec<VcpuRow>,
    /// Whether it was watched when threads were ready and did not run.
    pub preempt_watched: bool,
    /// How many exits were not over at the end; they have no time.
    pub open: u64,
    /// What is missing from the numbers.
    pub loss: Loss,
}

impl ExitsReport {
    /// Rows of groups that were read from `start_ns` to `end_ns` after the beginning.
    #[must_use]
    pub fn of(
        groups: &ExitGroups,
        (start_ns, end_ns): (u64, u64),
        loss: Loss,
        options: &ExitsOptions,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> String,
    ) -> Self {
        let wanted = |key: &GroupKey| match (&options.reasons, key.key) {
            (Some(wanted), Some(key)) => wanted.iter().any(|it| u64::from(*it) == key.code),
            _ => true,
        };
        let groups_wanted = || groups.iter().filter(|(key, _)| wanted(key));
        let mut all = ExitTotals::default();
        let mut all_idle_ns = 0;
        let elapsed_ns = end_ns.saturating_sub(start_ns);
        let mut wholes = Wholes::new(elapsed_ns);
        for (key, group) in groups_wanted() {
            let totals = &group.totals;
            let idle_ns = idle_ns(key, totals, names);
            all.merge(totals);
            all_idle_ns = u64::saturating_add(all_idle_ns, idle_ns);
            wholes.add(key, totals.count, totals.total_ns.saturating_sub(idle_ns));
        }
        let mut rows: Vec<_> = groups_wanted()
            .map(|(key, group)| {
                let mut row = row(key, group, (&all, all_idle_ns), options, names, vm_name);
                let busy_ns = row.time_ns.saturating_sub(row.idle_ns);
                if options.advice && wholes.is_hot(key, row.count, busy_ns) {
                    row.advice = advice(key, group, row.idle_ns, names);
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
                .counted
                .map_or_else(|| VMEXIT.to_owned(), |(kind, _)| kind.name.clone()),
            by: groups.by().iter().map(|group| group.name()).collect(),
            start_ns,
            elapsed_ns,
            count: all.count,
            time_ns: all.total_ns,
            idle_ns: all_idle_ns,
            row_count,
            rows,
            vcpus: vcpus(groups, vm_name),
            preempt_watched: options.preempt_watched,
            open: all.open,
            loss,
        }
    }
}

fn vcpus(groups: &ExitGroups, vm_name: &dyn Fn(u32) -> String) -> Vec<VcpuRow> {
    groups
        .vcpus()
        .map(|(vcpu_id, times)| VcpuRow {
            vm: vm_name(vcpu_id.tgid),
            pid: pid_of(vcpu_id.tgid),
            vcpu: (vcpu_id.vcpu != VCPU_UNKNOWN).then_some(vcpu_id.vcpu),
            tid: (vcpu_id.vcpu == VCPU_UNKNOWN).then_some(vcpu_id.tid),
            count: times.exits,
            guest_ns: times.guest_ns,
            kernel_ns: times.kernel_ns,
            vmm_ns: times.vmm_ns,
            halted_ns: times.halted_ns,
            preempted_ns: times.preempted_ns,
            open_ns: times.open_ns,
        })
        .collect()
}

/// Time in which the guest had nothing to do. Where a VMM does the waiting (there is no interrupt
/// controller in the kernel), it is with the VMM because of a halt.
fn idle_ns(key: &GroupKey, totals: &ExitTotals, names: &KeyNames<'_>) -> u64 {
    let halt = key.key.is_some_and(|key| names.is_halt(key));
    let vmm_ns = if halt { totals.vmm_ns } else { 0 };
    totals.halted_ns.saturating_add(vmm_ns)
}

fn row(
    key: &GroupKey,
    group: &Grouped,
    (all, all_idle_ns): (&ExitTotals, u64),
    options: &ExitsOptions,
    names: &KeyNames<'_>,
    vm_name: &dyn Fn(u32) -> String,
) -> ExitRow {
    let totals = &group.totals;
    let by_reason = names.counted.is_none();
    let reason = key.key.filter(|_| by_reason);
    let other = key.key.filter(|_| !by_reason);
    let shift = names.counted.map_or(0, |(kind, _)| kind.code_shift);
    let idle_ns = idle_ns(key, totals, names);
    let MinMax { min_ns, max_ns } = totals.extremes;
    ExitRow {
        vm: key.tgid.map(vm_name),
        pid: key.tgid.map(pid_of),
        vcpu: key
            .vcpu
            .map(|(index, _)| index)
            .filter(|index| *index != VCPU_UNKNOWN),
        tid: key
            .vcpu
            .filter(|(index, _)| *index == VCPU_UNKNOWN)
            .map(|(_, tid)| tid),
        reason: reason.map(|key| names.reason(key)),
        reason_code: reason.and_then(|key| u32::try_from(key.code).ok()),
        isa: reason.map(|key| key.class),
        key: other.map(|key| names.name(key)),
        name: other.and_then(|key| names.known(key)),
        code: other.map(|key| key.code << shift),
        class: other.map(|key| key.class),
        count: totals.count,
        open: totals.open,
        untimed: totals.untimed,
        count_ratio: ratio(totals.count, all.count),
        time_ns: totals.total_ns,
        time_ratio: ratio(totals.total_ns, all.total_ns),
        busy_ratio: ratio(
            totals.total_ns.saturating_sub(idle_ns),
            all.total_ns.saturating_sub(all_idle_ns),
        ),
        idle_ns,
        kernel_ns: totals.kernel_ns(),
        vmm_ns: totals.vmm_ns,
        halted_ns: totals.halted_ns,
        preempted_ns: totals.preempted_ns,
        min_ns: if min_ns == u64::MAX { 0 } else { min_ns },
        mean_ns: totals.mean_ns(),
        max_ns,
        p50_ns: totals.percentile_ns(50.0),
        p99_ns: totals.percentile_ns(99.0),
        percentiles: options
            .percentiles
            .iter()
            .map(|&percent| Percentile {
                percent,
                ns: totals.percentile_ns(percent),
            })
            .collect(),
        histogram: if options.histograms {
            buckets(totals)
        } else {
            Vec::new()
        },
        causes: causes(group, options.causes, names),
        other_causes_at_most: group
            .causes
            .as_ref()
            .map(|causes| causes.unseen())
            .filter(|_| options.causes > 0),
        advice: Vec::new(),
    }
}

fn causes(group: &Grouped, most: usize, names: &KeyNames<'_>) -> Vec<Cause> {
    let Some(causes) = group.causes.as_ref().filter(|_| most > 0) else {
        return Vec::new();
    };
    let ranked = causes.ranked().into_iter().take(most);
    ranked
        .map(|(key, count)| Cause {
            cause: names.cause(key),
            name: names.known_cause(key),
            code: key.code << names.cause_shift(key),
            at_least: count.at_least,
            at_most: count.at_most,
            time_ns: count.total_ns,
        })
        .collect()
}

fn buckets(totals: &ExitTotals) -> Vec<Bucket> {
    let counts = &totals.histogram;
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let end = counts
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1);
    (first..end)
        .map(|index| Bucket {
            from_ns: bucket_start(index),
            to_ns: if index + 1 < BUCKETS {
                bucket_start(index + 1)
            } else {
                u64::MAX
            },
            count: counts[index],
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people and graphs")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn sort(rows: &mut [ExitRow], key: SortKey) {
    let by =
        |number: fn(&ExitRow) -> u64| move |a: &ExitRow, b: &ExitRow| number(b).cmp(&number(a));
    // The groups come sorted by VM, vCPU and code; a stable sort keeps that among equals.
    match key {
        SortKey::Count => rows.sort_by(by(|row| row.count)),
        SortKey::Time => rows.sort_by(by(|row| row.time_ns)),
        SortKey::Busy => rows.sort_by(by(|row| row.time_ns.saturating_sub(row.idle_ns))),
        SortKey::Min => rows.sort_by(by(|row| row.min_ns)),
        SortKey::Mean => rows.sort_by(by(|row| row.mean_ns)),
        SortKey::Max => rows.sort_by(by(|row| row.max_ns)),
        SortKey::P50 => rows.sort_by(by(|row| row.p50_ns)),
        SortKey::P99 => rows.sort_by(by(|row| row.p99_ns)),
        SortKey::Name => rows.sort_by(|a, b| {
            let name = |row: &ExitRow| {
                let (vm, reason, key) = (row.vm.clone(), row.reason.clone(), row.key.clone());
                (vm, row.vcpu, row.tid, reason, key)
            };
            name(a).cmp(&name(b))
        }),
    }
}
