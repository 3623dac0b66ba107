//! `exits`: where VM exits go, by reason, vCPU and VM.

use std::collections::BTreeMap;

use kvm_ebpf_common::{BUCKETS, VCPU_UNKNOWN, bucket_start};
use serde::Serialize;

use crate::{
    model::{ExitSample, ExitTotals, Loss, ThreadExits},
    tracefs::ReasonNames,
};

/// What rows are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The VM: the VMM's process.
    Vm,
    /// The vCPU (its index, or the thread where that is not known).
    Vcpu,
    /// Why the guest was left.
    Reason,
}

/// What rows are sorted by; the largest first, names alphabetically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// Exits.
    Count,
    /// Total time.
    Time,
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
    /// What rows are told apart by.
    pub by: Vec<Group>,
    /// What comes first.
    pub sort: SortKey,
    /// Only so many rows; percentages are of all the same.
    pub top: Option<usize>,
    /// Only these reasons, by number.
    pub reasons: Option<Vec<u32>>,
    /// Also the histograms.
    pub histograms: bool,
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
    /// Exits.
    pub count: u64,
    /// How many of them had not been entered from at the end; they have no time.
    pub open: u64,
    /// Their part of all exits, 0 to 1.
    pub count_ratio: f64,
    /// Time from exit to next entry, summed.
    pub time_ns: u64,
    /// Its part of all time, 0 to 1.
    pub time_ratio: f64,
    /// The shortest.
    pub min_ns: u64,
    /// The mean.
    pub mean_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The median, estimated from the log2 histogram.
    pub p50_ns: u64,
    /// The 99th percentile, estimated from the log2 histogram.
    pub p99_ns: u64,
    /// The histogram from its first to its last bucket with any exit, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<Bucket>,
}

/// Where VM exits went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExitsReport {
    /// Always `exits`.
    pub view: &'static str,
    /// How long exits were watched, in ns.
    pub elapsed_ns: u64,
    /// Exits in all rows, also those that `--top` leaves out.
    pub count: u64,
    /// Their time.
    pub time_ns: u64,
    /// Rows there are; `rows` may have fewer.
    pub row_count: usize,
    /// The rows.
    pub rows: Vec<ExitRow>,
    /// How many of them had not been entered from at the end; they have no time.
    pub open: u64,
    /// What is missing from the numbers.
    pub loss: Loss,
}

/// Rows with the same key are one.
type Key = (Option<u32>, Option<(u32, u32)>, Option<(u32, u32)>);

impl ExitsReport {
    /// Groups a sample's exits into rows.
    #[must_use]
    pub fn of(
        sample: &ExitSample,
        options: &ExitsOptions,
        names: &ReasonNames<'_>,
        vm_name: &dyn Fn(u32) -> String,
    ) -> Self {
        let mut groups: BTreeMap<Key, ExitTotals> = BTreeMap::new();
        for thread in &sample.threads {
            let wanted = options.reasons.as_ref();
            if wanted.is_some_and(|wanted| !wanted.contains(&thread.key.reason)) {
                continue;
            }
            groups
                .entry(key(thread, &options.by))
                .or_default()
                .merge(&thread.totals);
        }
        let mut all = ExitTotals::default();
        for totals in groups.values() {
            all.merge(totals);
        }
        let mut rows: Vec<_> = groups
            .iter()
            .map(|(key, totals)| row(*key, totals, &all, options, names, vm_name))
            .collect();
        sort(&mut rows, options.sort);
        let row_count = rows.len();
        rows.truncate(options.top.unwrap_or(usize::MAX));
        Self {
            view: "exits",
            elapsed_ns: sample.elapsed_ns,
            count: all.count,
            time_ns: all.total_ns,
            row_count,
            rows,
            open: all.open,
            loss: sample.loss,
        }
    }
}

fn key(thread: &ThreadExits, by: &[Group]) -> Key {
    let key = &thread.key;
    // Where the index is not known, the thread stands for the vCPU.
    let vcpu = match key.vcpu {
        VCPU_UNKNOWN => (VCPU_UNKNOWN, key.tid),
        index => (index, 0),
    };
    let has = |group| by.contains(&group);
    (
        has(Group::Vm).then_some(key.tgid),
        has(Group::Vcpu).then_some(vcpu),
        has(Group::Reason).then_some((key.isa, key.reason)),
    )
}

fn row(
    (tgid, vcpu, reason): Key,
    totals: &ExitTotals,
    all: &ExitTotals,
    options: &ExitsOptions,
    names: &ReasonNames<'_>,
    vm_name: &dyn Fn(u32) -> String,
) -> ExitRow {
    ExitRow {
        vm: tgid.map(vm_name),
        pid: tgid,
        vcpu: vcpu
            .map(|(index, _)| index)
            .filter(|index| *index != VCPU_UNKNOWN),
        tid: vcpu
            .filter(|(index, _)| *index == VCPU_UNKNOWN)
            .map(|(_, tid)| tid),
        reason: reason.map(|(isa, code)| names.name(isa, code)),
        reason_code: reason.map(|(_, code)| code),
        isa: reason.map(|(isa, _)| isa),
        count: totals.count,
        open: totals.open,
        count_ratio: ratio(totals.count, all.count),
        time_ns: totals.total_ns,
        time_ratio: ratio(totals.total_ns, all.total_ns),
        min_ns: if totals.timed() == 0 {
            0
        } else {
            totals.min_ns
        },
        mean_ns: totals.mean_ns(),
        max_ns: totals.max_ns,
        p50_ns: totals.percentile_ns(50.0),
        p99_ns: totals.percentile_ns(99.0),
        histogram: if options.histograms {
            buckets(totals)
        } else {
            Vec::new()
        },
    }
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
        SortKey::Min => rows.sort_by(by(|row| row.min_ns)),
        SortKey::Mean => rows.sort_by(by(|row| row.mean_ns)),
        SortKey::Max => rows.sort_by(by(|row| row.max_ns)),
        SortKey::P50 => rows.sort_by(by(|row| row.p50_ns)),
        SortKey::P99 => rows.sort_by(by(|row| row.p99_ns)),
        SortKey::Name => rows.sort_by(|a, b| {
            (&a.vm, a.vcpu, a.tid, &a.reason).cmp(&(&b.vm, b.vcpu, b.tid, &b.reason))
        }),
    }
}
