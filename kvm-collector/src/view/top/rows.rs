//! Turns the counters of a [`ReadingHistory`] into the rows and totals of a scope.

use std::collections::HashMap;

use super::{
    ExitBreakdown, ReadingHistory, Scope,
    history::Vcpu,
    trend::{TREND_SAMPLES, TrendMetric},
};
use crate::{
    host::VcpuActivity,
    model::{ExitTotals, VcpuId},
    view::{GroupBy, GroupKey},
};

/// The time that numbers cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Between the last two readings.
    Recent,
    /// Since the start of the measurement.
    All,
}

/// One row of the `top` view.
#[derive(Debug, Clone, PartialEq)]
pub struct TopRow {
    /// The VM, vCPU and key of the row's exits, as far as the row has only one of each.
    pub key: GroupKey,
    /// The name in the row's first column.
    pub name: String,
    /// Length of the end of `name`, in bytes, that distinguishes rows of the same VM or of VMs with the same name.
    pub name_tail: usize,
    /// The row's exits and where their time went.
    pub breakdown: ExitBreakdown,
    /// Guest time of the row's vCPUs; `None` if the row has only some of their exits.
    pub guest_ns: Option<u64>,
    /// Sum of the vCPUs' lifetimes within the window. Shares of time refer to it.
    pub wall_ns: u64,
    /// Guest time plus the cost of the row's vCPUs, in exits of any key. Overhead refers to it.
    pub active_ns: u64,
    /// Number of vCPUs, and how many of them have not ended.
    pub vcpus: (usize, usize),
    /// What the row's vCPUs do if none of their VMs made exits since the previous reading.
    pub activity: Option<RowActivity>,
    /// Whether the row is a VM or vCPU of which all vCPUs have ended.
    pub has_ended: bool,
    /// Statistics on the exits' durations; `None` until the histograms of the scope are read.
    pub durations: Option<DurationStats>,
    /// Rates per second, oldest first.
    pub trend: Vec<f32>,
}

impl TopRow {
    /// Returns whether nothing is known about the times of the row's vCPUs, because none has made an exit yet.
    #[must_use]
    pub fn has_unknown_times(&self) -> bool {
        self.activity.is_some() && self.guest_ns.is_none()
    }
}

/// What the vCPUs of a row without exits do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowActivity {
    /// All do the same.
    Same(VcpuActivity),
    /// They do different things.
    Mixed,
}

impl RowActivity {
    /// Returns the description for the row's name.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Same(activity) => activity.short_text(),
            Self::Mixed => "no exits",
        }
    }
}

/// Statistics on durations of exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationStats {
    /// Mean duration.
    pub mean_ns: u64,
    /// Median duration, accurate to 5 %.
    pub p50_ns: u64,
    /// 99th percentile of the durations, accurate to 5 %.
    pub p99_ns: u64,
    /// Longest duration.
    pub max_ns: u64,
}

impl DurationStats {
    /// Computes the statistics of exits; `None` if none of them has a duration.
    #[must_use]
    pub fn from_totals(totals: &ExitTotals) -> Option<Self> {
        (totals.timed_count() > 0).then(|| Self {
            mean_ns: totals.mean_ns(),
            p50_ns: totals.percentile_ns(50.0),
            p99_ns: totals.percentile_ns(99.0),
            max_ns: totals.extremes.max_ns,
        })
    }
}

/// Totals of a scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeTotals {
    /// The scope's exits and where their time went.
    pub breakdown: ExitBreakdown,
    /// Guest time of the scope's vCPUs.
    pub guest_ns: u64,
    /// Sum of the vCPUs' lifetimes within the window.
    pub wall_ns: u64,
    /// Guest time plus the cost of the scope's vCPUs, in exits of any key. Overhead refers to it.
    pub active_ns: u64,
    /// Number of VMs that have not ended.
    pub vms: usize,
    /// Number of vCPUs that have not ended.
    pub vcpus: usize,
}

/// Sums of a row's exits.
struct RowSums {
    breakdown: ExitBreakdown,
    trend: [f32; TREND_SAMPLES],
    key: GroupKey,
}

/// Sums of a row's vCPUs.
#[derive(Debug, Clone, Copy, Default)]
struct VcpuSums {
    guest_ns: u64,
    wall_ns: u64,
    cost_ns: u64,
    count: usize,
    /// Number of vCPUs that have not ended.
    alive: usize,
    /// Number of vCPUs whose times are known.
    measured: usize,
    /// Number of vCPUs of VMs without exits.
    idle: usize,
    activity: Option<RowActivity>,
}

impl VcpuSums {
    fn add_activity(&mut self, activity: VcpuActivity) {
        let activity = RowActivity::Same(activity);
        self.idle += 1;
        self.activity = match self.activity {
            Some(other) if other != activity => Some(RowActivity::Mixed),
            _ => Some(activity),
        };
    }
}

impl ReadingHistory {
    /// Returns the totals of a selection. If it selects a key, `guest_ns`, `wall_ns` and
    /// `active_ns` still cover all exits of its vCPUs.
    #[must_use]
    pub fn totals(&self, within: &GroupKey, window: Window) -> ScopeTotals {
        let scope = Scope {
            within: *within,
            ..Scope::default()
        };
        let mut totals = ScopeTotals::default();
        for row in &self.rows {
            let breakdown = row.breakdown_in(window);
            if scope.contains(row.vcpu_id, row.key) {
                totals.breakdown.merge(&breakdown);
            }
            if scope.contains_vcpu(row.vcpu_id) {
                totals.active_ns = totals.active_ns.saturating_add(breakdown.cost_ns());
            }
        }
        // The vCPUs of a VM follow each other.
        let mut last_vm = None;
        for (vcpu_id, vcpu) in &self.vcpus {
            if !scope.contains_vcpu(*vcpu_id) {
                continue;
            }
            totals.guest_ns = totals.guest_ns.saturating_add(vcpu.guest_in(window));
            totals.active_ns = totals.active_ns.saturating_add(vcpu.guest_in(window));
            totals.wall_ns = totals.wall_ns.saturating_add(self.wall_ns(vcpu, window));
            if vcpu.ended_ns.is_none() {
                totals.vcpus += 1;
                if last_vm != Some(vcpu_id.tgid) {
                    totals.vms += 1;
                    last_vm = Some(vcpu_id.tgid);
                }
            }
        }
        totals
    }

    /// Returns the rows of a scope, in any order.
    ///
    /// [`Window::Recent`] omits rows with a trend of only 0, unless they have vCPUs that have not
    /// ended.
    #[must_use]
    pub fn rows(&self, scope: &Scope, window: Window, trend: TrendMetric) -> Vec<TopRow> {
        let has_whole_vcpus = scope.within.key.is_none() && scope.by != GroupBy::Reason;
        let mut indices: HashMap<GroupKey, usize> = HashMap::new();
        let mut sums: Vec<RowSums> = Vec::new();
        let mut index_of = |key: GroupKey, sums: &mut Vec<RowSums>| {
            *indices.entry(key).or_insert_with(|| {
                sums.push(RowSums {
                    breakdown: ExitBreakdown::default(),
                    trend: [0.0; TREND_SAMPLES],
                    key,
                });
                sums.len() - 1
            })
        };
        for row in self.rows.iter() {
            if !scope.contains(row.vcpu_id, row.key)
                || (window == Window::Recent && row.trend.is_flat())
            {
                continue;
            }
            let index = index_of(scope.row_key(row.vcpu_id, row.key), &mut sums);
            let sum = &mut sums[index];
            sum.breakdown.merge(&row.breakdown_in(window));
            row.trend.add_to(&mut sum.trend, trend);
        }
        let vcpu_sums = self.vcpu_sums(scope, window);
        if has_whole_vcpus {
            for (key, vcpus) in &vcpu_sums {
                if vcpus.alive > 0 {
                    index_of(*key, &mut sums);
                }
            }
        }
        sums.into_iter()
            .map(|mut sum| {
                sum.trend.rotate_left(self.sample_count() % TREND_SAMPLES);
                let vcpus_key = vcpus_key(scope, sum.key);
                let vcpus = vcpu_sums.get(&vcpus_key).copied().unwrap_or_default();
                let (name, tail) = self.row_name(scope, &sum.key);
                TopRow {
                    name_tail: tail.len(),
                    name: name + &tail,
                    key: sum.key,
                    breakdown: sum.breakdown,
                    guest_ns: (has_whole_vcpus && vcpus.measured > 0).then_some(vcpus.guest_ns),
                    wall_ns: vcpus.wall_ns,
                    active_ns: vcpus.guest_ns.saturating_add(vcpus.cost_ns),
                    vcpus: (vcpus.count, vcpus.alive),
                    // A reason does not end with the vCPUs that made its exits.
                    has_ended: scope.by != GroupBy::Reason && vcpus.count > 0 && vcpus.alive == 0,
                    activity: vcpus
                        .activity
                        .filter(|_| has_whole_vcpus && vcpus.idle == vcpus.alive),
                    durations: None,
                    trend: sum.trend.to_vec(),
                }
            })
            .collect()
    }

    /// Sums the vCPUs of each row. Rows by reason share one sum, of all selected vCPUs.
    fn vcpu_sums(&self, scope: &Scope, window: Window) -> HashMap<GroupKey, VcpuSums> {
        let mut vcpu_sums: HashMap<GroupKey, VcpuSums> = HashMap::new();
        let row_of = |vcpu_id: VcpuId| vcpus_key(scope, scope.row_key(vcpu_id, Default::default()));
        for (vcpu_id, vcpu) in &self.vcpus {
            if scope.contains_vcpu(*vcpu_id) {
                let sum = vcpu_sums.entry(row_of(*vcpu_id)).or_default();
                sum.guest_ns = sum.guest_ns.saturating_add(vcpu.guest_in(window));
                sum.wall_ns = sum.wall_ns.saturating_add(self.wall_ns(vcpu, window));
                sum.count += 1;
                sum.alive += usize::from(vcpu.ended_ns.is_none());
                sum.measured += usize::from(vcpu.is_measured);
                if let Some(activity) = vcpu.activity {
                    sum.add_activity(activity);
                }
            }
        }
        for row in &self.rows {
            if scope.contains_vcpu(row.vcpu_id) {
                let sum = vcpu_sums.entry(row_of(row.vcpu_id)).or_default();
                sum.cost_ns = sum
                    .cost_ns
                    .saturating_add(row.breakdown_in(window).cost_ns());
            }
        }
        vcpu_sums
    }

    /// Returns how long a vCPU existed within a window.
    fn wall_ns(&self, vcpu: &Vcpu, window: Window) -> u64 {
        // Nothing is known about its time, so no share may refer to it.
        if !vcpu.is_measured {
            return 0;
        }
        let start_ns = match window {
            Window::Recent => self.time_ns.saturating_sub(self.elapsed_ns),
            Window::All => 0,
        };
        let end_ns = vcpu.ended_ns.unwrap_or(self.time_ns);
        end_ns.saturating_sub(start_ns.max(vcpu.since_ns))
    }

    /// Returns the name of a row, and its end that must not be cut.
    fn row_name(&self, scope: &Scope, row: &GroupKey) -> (String, String) {
        match scope.by {
            GroupBy::Vm => row.tgid.map(|tgid| self.vm_name_and_pid(tgid)),
            GroupBy::Vcpu => vcpu_of(row).map(|vcpu_id| {
                let vcpu = Self::vcpu_name(vcpu_id);
                match (scope.within.tgid, row.tgid) {
                    (None, Some(tgid)) => {
                        let (vm, pid) = self.vm_name_and_pid(tgid);
                        (vm, format!("{pid} {vcpu}"))
                    }
                    _ => (vcpu, String::new()),
                }
            }),
            GroupBy::Reason => row.key.map(|key| (self.key_name(key), String::new())),
        }
        .unwrap_or_default()
    }

    /// Returns the names of the selected VM, vCPU and key, in this order. It omits those that are
    /// not selected.
    #[must_use]
    pub fn scope_path(&self, within: &GroupKey) -> Vec<String> {
        [
            within.tgid.map(|tgid| self.vm_name(tgid)),
            vcpu_of(within).map(Self::vcpu_name),
            within.key.map(|key| self.key_name(key)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Returns the key under which [`ReadingHistory::vcpu_sums`] has the vCPUs of a row.
fn vcpus_key(scope: &Scope, row: GroupKey) -> GroupKey {
    match scope.by {
        GroupBy::Reason => GroupKey {
            key: None,
            ..scope.within
        },
        _ => GroupKey {
            key: scope.within.key,
            ..row
        },
    }
}

/// Returns the vCPU of a row, if it has only one.
fn vcpu_of(key: &GroupKey) -> Option<VcpuId> {
    let (vcpu, tid) = key.vcpu?;
    let tgid = key.tgid.unwrap_or_default();
    Some(VcpuId { tgid, vcpu, tid })
}

impl super::history::Row {
    fn breakdown_in(&self, window: Window) -> ExitBreakdown {
        match window {
            Window::Recent => self.recent_breakdown,
            Window::All => self.total_breakdown(),
        }
    }
}

impl Vcpu {
    fn guest_in(&self, window: Window) -> u64 {
        match window {
            Window::Recent => self.recent_guest_ns(),
            Window::All => self.total_guest_ns(),
        }
    }
}
