//! Rows of an `exits` report.

use kvm_ebpf_common::VCPU_UNKNOWN;
use serde::Serialize;

use super::{
    details::{Bucket, CauseRow, Percentile, buckets, causes},
    evidence::Evidence,
    groups::{GroupKey, GroupStats},
    host_rates::RowRates,
    labels::RowLabels,
    names::KeyNames,
    options::ExitsOptions,
};
use crate::{
    knowledge::advice::Advice,
    model::{ExitTotals, MinMax, VmUuid},
    view::RecordedHost,
};

/// Exits of one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExitRow {
    /// The host; only if grouped by host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<RecordedHost>,
    /// How long the host was recorded, in ns; only if grouped by host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// Name of the VM; only if grouped by VM. If the name is not known, program and PID of the VMM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// UUID of the VM, `None` inside if unknown; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        not(feature = "test-api"),
        expect(
            clippy::option_option,
            reason = "JSON distinguishes an unknown UUID from a row without a VM"
        )
    )]
    pub vm_uuid: Option<Option<VmUuid>>,
    /// PID of the VMM; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Index of the vCPU; only if grouped by vCPU and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// TID of the vCPU thread; only if grouped by vCPU and the index is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Exit reason; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Code of the exit reason as in `kvm_exit.exit_reason`; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<u32>,
    /// Instruction set that defines the reason: `vmx`, `svm` or `arm64`; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isa: Option<&'static str>,
    /// Label of the counted event, if other events than exits are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Known name of the number in `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// The number in `key`, such as an address or a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u64>,
    /// Direction or error of the counted event: read or write, in or out, an errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<u32>,
    /// Number of exits.
    pub count: u64,
    /// Number of exits in progress at the end of the interval. They have no duration.
    pub open: u64,
    /// Number of exits without a duration because their start or end was not seen.
    pub untimed: u64,
    /// The sums of the hosts' rates; only of several hosts.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub rates: Option<RowRates>,
    /// Share of `count` in that of all rows, 0 to 1.
    pub count_ratio: f64,
    /// Total time from exit to next entry.
    pub total_ns: u64,
    /// Share of `total_ns` in that of all rows, 0 to 1.
    pub time_ratio: f64,
    /// Share of the non-idle time in that of all rows, 0 to 1.
    pub cost_ratio: f64,
    /// Part of `total_ns` during which the guest was idle: halted in the kernel, or in the VMM because
    /// of a halt.
    pub idle_ns: u64,
    /// Part of `total_ns` in the kernel, without the following parts.
    pub kernel_ns: u64,
    /// Part of `total_ns` in the VMM's user space.
    pub vmm_ns: u64,
    /// Part of `total_ns` during which the vCPU was halted in the kernel.
    pub halted_ns: u64,
    /// Part of `total_ns` during which the thread was runnable, but not running; `None` unless measured.
    pub preempted_ns: Option<u64>,
    /// Shortest duration.
    pub min_ns: u64,
    /// Mean duration.
    pub mean_ns: u64,
    /// Longest duration.
    pub max_ns: u64,
    /// Median duration, accurate to 5 %.
    pub p50_ns: u64,
    /// 99th percentile of the durations, accurate to 5 %.
    pub p99_ns: u64,
    /// The requested percentiles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percentiles: Vec<Percentile>,
    /// The histogram from the first to the last bucket that is not empty, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Vec<Bucket>>,
    /// The most frequent causes since the start of the measurement, if requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseRow>,
    /// Maximum number of occurrences of any cause that is not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_causes_at_most: Option<u64>,
    /// Advice on the exits, if requested and known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
    /// What the advice is based on, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

impl ExitRow {
    /// Returns whether any exit has a duration. An exit that ends in the interval may have been
    /// counted in an earlier one.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.total_ns > 0 || self.count > self.open.saturating_add(self.untimed)
    }
}

/// Creates the row of a group. `all` has the totals of all groups, for shares.
pub(super) fn exit_row(
    key: &GroupKey,
    group: &GroupStats,
    (all, all_idle_ns): (&ExitTotals, u64),
    options: &ExitsOptions,
    names: &KeyNames<'_>,
    labels: RowLabels<'_>,
) -> ExitRow {
    let totals = &group.totals;
    let is_exit_reason = names.counted_event.is_none();
    let reason = key.key.filter(|_| is_exit_reason);
    let event = key.key.filter(|_| !is_exit_reason);
    let shift = names.counted_event.map_or(0, |(kind, _)| kind.code_shift);
    let idle_ns = group.idle_ns;
    let vm = key.tgid.map(|vm| labels.vm_name(vm));
    let MinMax { min_ns, max_ns } = totals.extremes;
    let host = labels.host(key);
    let has_preempted = labels.has_preempted(key, options.preempt_watched);
    ExitRow {
        elapsed_ns: host.as_ref().and_then(|_| labels.elapsed_ns(key)),
        host,
        vm_uuid: vm.as_ref().map(|vm| vm.uuid),
        vm: vm.map(|vm| vm.name),
        pid: key.tgid.map(|vm| labels.pid(vm)),
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
        isa: reason.map(|key| names.reasons.isa_name(key.subcode)),
        key: event.map(|key| names.label(key)),
        key_name: event.and_then(|key| names.known_name(key)),
        code: event.map(|key| key.code << shift),
        class: event.map(|key| key.subcode),
        count: totals.count,
        open: totals.open,
        untimed: totals.untimed,
        rates: labels.rates(key),
        count_ratio: ratio(totals.count, all.count),
        total_ns: totals.total_ns,
        time_ratio: ratio(totals.total_ns, all.total_ns),
        cost_ratio: ratio(
            totals.total_ns.saturating_sub(idle_ns),
            all.total_ns.saturating_sub(all_idle_ns),
        ),
        idle_ns,
        kernel_ns: totals.kernel_ns(),
        vmm_ns: totals.vmm_ns,
        halted_ns: totals.halted_ns,
        preempted_ns: has_preempted.then_some(totals.preempted_ns),
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
        histogram: options.histograms.then(|| buckets(totals)),
        causes: causes(group, options.causes, names),
        other_causes_at_most: group
            .causes
            .as_ref()
            .map(|causes| causes.unseen())
            .filter(|_| options.causes > 0),
        advice: Vec::new(),
        evidence: None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
