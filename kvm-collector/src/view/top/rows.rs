//! The ledger's numbers as rows of what is looked at.

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::{
    ReadingHistory, Scope, ExitBreakdown,
    ledger::Vcpu,
    trend::{TREND_SAMPLES, TrendMetric},
};
use crate::{
    model::{ExitTotals, VcpuId},
    view::{Group, GroupKey},
};

/// How far back numbers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// From the last reading but one to the last.
    Recent,
    /// Since the beginning.
    All,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct TopRow {
    /// What its exits have in common.
    pub key: GroupKey,
    /// What it is called.
    pub name: String,
    /// Its exits and their time.
    pub breakdown: ExitBreakdown,
    /// How long its vCPUs were in the guest; not where only some of their exits are looked at.
    pub guest_ns: Option<u64>,
    /// How long its vCPUs were there, summed: what times are shares of.
    pub wall_ns: u64,
    /// Its vCPUs' idle time, whatever it was for: without it, times are shares of the rest.
    pub wall_idle_ns: u64,
    /// How many vCPUs it has, and how many of them have not ended.
    pub vcpus: (usize, usize),
    /// How its exits took, where that is known.
    pub durations: Option<DurationStats>,
    /// Rates per second of the readings remembered, the last one last.
    pub trend: Vec<f32>,
}

impl TopRow {
    /// Have all of its vCPUs ended?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.vcpus.0 > 0 && self.vcpus.1 == 0
    }
}

/// How exits took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationStats {
    /// The mean.
    pub mean_ns: u64,
    /// The median, within 5 %.
    pub p50_ns: u64,
    /// The 99th percentile, within 5 %.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl DurationStats {
    /// Those of a histogram; `None` if nothing in it has a time.
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

/// All of what is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScopeTotals {
    /// Exits and their time.
    pub spent: ExitBreakdown,
    /// In the guest.
    pub guest_ns: u64,
    /// How long the vCPUs were there.
    pub wall_ns: u64,
    /// Of it, idle.
    pub wall_idle_ns: u64,
    /// VMs that have not ended.
    pub vms: usize,
    /// vCPUs that have not ended.
    pub vcpus: usize,
}

/// What a row is put together from.
struct Sum {
    spent: ExitBreakdown,
    trend: [f32; TREND_SAMPLES],
    key: GroupKey,
}

/// The vCPUs of a row.
#[derive(Debug, Clone, Copy, Default)]
struct Vcpus {
    guest_ns: u64,
    wall_ns: u64,
    idle_ns: u64,
    count: usize,
    living: usize,
}

impl ReadingHistory {
    /// Everything in a scope. Times are shares of all the time of its vCPUs, whatever else they do.
    #[must_use]
    pub fn totals(&self, within: &GroupKey, window: Window) -> ScopeTotals {
        let scope = Scope {
            within: *within,
            ..Scope::default()
        };
        let mut totals = ScopeTotals::default();
        for row in &self.rows {
            let spent = row.spent_in(window);
            if scope.contains(row.vcpu_id, row.key) {
                totals.spent.merge(&spent);
            }
            if scope.contains_vcpu(row.vcpu_id) {
                totals.wall_idle_ns += spent.idle_ns;
            }
        }
        let mut last = None;
        for (vcpu_id, vcpu) in &self.vcpus {
            if !scope.contains_vcpu(*vcpu_id) {
                continue;
            }
            totals.guest_ns += vcpu.guest_in(window);
            totals.wall_ns += self.wall_ns(vcpu, window);
            if vcpu.ended_ns.is_none() {
                totals.vcpus += 1;
                if last != Some(vcpu_id.tgid) {
                    totals.vms += 1;
                    last = Some(vcpu_id.tgid);
                }
            }
        }
        totals
    }

    /// The rows of what is looked at, in no order. `Recent` has those with anything in their trend, and
    /// vCPUs that are there; `All` has all.
    #[must_use]
    pub fn rows(&self, scope: &Scope, window: Window, trend: TrendMetric) -> Vec<TopRow> {
        let whole_vcpus = scope.within.key.is_none() && scope.by != Group::Reason;
        let mut places: HashMap<GroupKey, usize> = HashMap::new();
        let mut sums: Vec<Sum> = Vec::new();
        let mut place_of = |key: GroupKey, sums: &mut Vec<Sum>| {
            *places.entry(key).or_insert_with(|| {
                sums.push(Sum {
                    spent: ExitBreakdown::default(),
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
            let place = place_of(scope.row_key(row.vcpu_id, row.key), &mut sums);
            let sum = &mut sums[place];
            sum.spent.merge(&row.spent_in(window));
            row.trend.add_to(&mut sum.trend, trend);
        }
        let by_vcpus = self.by_vcpus(scope, window);
        if whole_vcpus {
            for (key, vcpus) in &by_vcpus {
                if vcpus.living > 0 {
                    place_of(*key, &mut sums);
                }
            }
        }
        sums.into_iter()
            .map(|mut sum| {
                sum.trend.rotate_left(self.sample_count() % TREND_SAMPLES);
                let vcpus_key = vcpus_of(scope, sum.key);
                let vcpus = by_vcpus.get(&vcpus_key).copied().unwrap_or_default();
                TopRow {
                    name: self.row_name(scope, &sum.key),
                    key: sum.key,
                    breakdown: sum.spent,
                    guest_ns: whole_vcpus.then_some(vcpus.guest_ns),
                    wall_ns: vcpus.wall_ns,
                    wall_idle_ns: vcpus.idle_ns,
                    vcpus: (vcpus.count, vcpus.living),
                    durations: None,
                    trend: sum.trend.to_vec(),
                }
            })
            .collect()
    }

    /// What rows by VM or vCPU say of these; of rows by reason, those of all of them.
    fn by_vcpus(&self, scope: &Scope, window: Window) -> HashMap<GroupKey, Vcpus> {
        let mut by_vcpus: HashMap<GroupKey, Vcpus> = HashMap::new();
        let row_of = |vcpu_id: VcpuId| vcpus_of(scope, scope.row_key(vcpu_id, Default::default()));
        for (vcpu_id, vcpu) in &self.vcpus {
            if scope.contains_vcpu(*vcpu_id) {
                let sum = by_vcpus.entry(row_of(*vcpu_id)).or_default();
                sum.guest_ns += vcpu.guest_in(window);
                sum.wall_ns += self.wall_ns(vcpu, window);
                sum.count += 1;
                sum.living += usize::from(vcpu.ended_ns.is_none());
            }
        }
        for row in &self.rows {
            if scope.contains_vcpu(row.vcpu_id) {
                let sum = by_vcpus.entry(row_of(row.vcpu_id)).or_default();
                sum.idle_ns += row.spent_in(window).idle_ns;
            }
        }
        by_vcpus
    }

    /// How long a vCPU was there.
    fn wall_ns(&self, vcpu: &Vcpu, window: Window) -> u64 {
        let begin = match window {
            Window::Recent => self.time_ns.saturating_sub(self.elapsed_ns),
            Window::All => 0,
        };
        let end = vcpu.ended_ns.unwrap_or(self.time_ns);
        end.saturating_sub(begin.max(vcpu.since_ns))
    }

    fn row_name(&self, scope: &Scope, row: &GroupKey) -> String {
        match scope.by {
            Group::Vm => row.tgid.map(|tgid| self.vm_name(tgid)),
            Group::Vcpu => row.vcpu.map(|vcpu| {
                let name = vcpu_name(vcpu);
                match (scope.within.tgid, row.tgid) {
                    (None, Some(tgid)) => format!("{} {name}", self.vm_name(tgid)),
                    _ => name,
                }
            }),
            Group::Reason => row.key.map(|key| self.key_name(key)),
        }
        .unwrap_or_default()
    }

    /// What a scope's exits have in common, in words, from the largest.
    #[must_use]
    pub fn scope_path(&self, within: &GroupKey) -> Vec<String> {
        [
            within.tgid.map(|tgid| self.vm_name(tgid)),
            within.vcpu.map(vcpu_name),
            within.key.map(|key| self.key_name(key)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The VM or vCPU of a row, and whatever of it is not looked at as well.
fn vcpus_of(scope: &Scope, row: GroupKey) -> GroupKey {
    match scope.by {
        Group::Reason => GroupKey {
            key: None,
            ..scope.within
        },
        _ => GroupKey {
            key: scope.within.key,
            ..row
        },
    }
}

fn vcpu_name((index, tid): (u32, u32)) -> String {
    if index == VCPU_UNKNOWN {
        format!("tid {tid}")
    } else {
        format!("vCPU {index}")
    }
}

impl super::ledger::Row {
    fn spent_in(&self, window: Window) -> ExitBreakdown {
        match window {
            Window::Recent => self.spent,
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
