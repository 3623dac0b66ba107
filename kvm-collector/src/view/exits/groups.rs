//! Aggregates exits into groups: each group becomes a row of a report.

use std::collections::BTreeMap;

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use super::idle::idle_ns;
use crate::model::{Causes, EventKind, ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes};

/// A property by which exits are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// By VM, that is, by process of the VMM.
    Vm,
    /// By vCPU: its index, or its thread if the index is not known.
    Vcpu,
    /// By exit reason, or by key of the counted event.
    Reason,
}

impl GroupBy {
    /// Returns the name in `--by` and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Vcpu => "vcpu",
            Self::Reason => "reason",
        }
    }
}

/// The key of a group. A field is `None` if the exits are not grouped by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The host, by its index in the exits of several recordings ([`MergedExits`](super::MergedExits)).
    pub host: Option<u32>,
    /// TGID of the VMM.
    pub tgid: Option<u32>,
    /// Index and TID of the vCPU. The TID is 0 if the index is known, else the index is
    /// `VCPU_UNKNOWN`.
    pub vcpu: Option<(u32, u32)>,
    /// The exit reason, or the key of the counted event.
    pub key: Option<Key>,
}

/// The exits of one group.
#[derive(Debug, Clone, Default)]
pub struct GroupStats {
    /// Count, durations and histogram.
    pub totals: ExitTotals,
    /// The idle part of their time: see [`idle_ns`].
    pub idle_ns: u64,
    /// The most frequent causes, if requested.
    pub causes: Option<Causes>,
    /// Extremes since the previous reading.
    recent: Option<MinMax>,
}

impl GroupStats {
    /// Adds exits of another group, except their recent extremes.
    pub(super) fn merge(&mut self, other: &Self, cause_kind: impl Fn(u32) -> u32) {
        self.totals.merge(&other.totals);
        self.idle_ns = self.idle_ns.saturating_add(other.idle_ns);
        if let Some(causes) = &other.causes {
            let causes = causes.with_kinds(cause_kind);
            self.causes.get_or_insert_default().merge(&causes);
        }
    }
}

/// Exits by group, and times by vCPU.
#[derive(Debug, Clone, Default)]
pub struct ExitGroups {
    by: Vec<GroupBy>,
    kind: Option<EventKind>,
    /// Codes of the selected exit reasons; `None` for all.
    reasons: Option<Vec<u32>>,
    /// Number of exits with reasons that are not selected.
    unselected: BTreeMap<Key, u64>,
    /// Boxed, because a B-tree moves its values and allocates up to twice as many slots as it uses.
    groups: BTreeMap<GroupKey, Box<GroupStats>>,
    vcpus: BTreeMap<VcpuId, VcpuTotals>,
}

/// Number of exits of a vCPU, and where its time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTotals {
    /// Number of exits.
    pub exits: u64,
    /// Time in the guest.
    pub guest_ns: u64,
    /// Time in the kernel, on behalf of the guest.
    pub kernel_ns: u64,
    /// Time in the VMM's user space.
    pub vmm_ns: u64,
    /// Time halted.
    pub halted_ns: u64,
    /// Time during which the thread was runnable, but not running.
    pub preempted_ns: u64,
    /// Duration so far of the exit in progress. It is not part of the other times.
    pub open_ns: u64,
}

impl VcpuTotals {
    /// Returns the time of which it is known where it went, with that of the exit in progress.
    pub(super) fn known_ns(&self) -> u64 {
        let times = [
            self.guest_ns,
            self.kernel_ns,
            self.vmm_ns,
            self.halted_ns,
            self.preempted_ns,
            self.open_ns,
        ];
        times.into_iter().fold(0, u64::saturating_add)
    }

    fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.exits, other.exits),
            (&mut self.guest_ns, other.guest_ns),
            (&mut self.kernel_ns, other.kernel_ns),
            (&mut self.vmm_ns, other.vmm_ns),
            (&mut self.halted_ns, other.halted_ns),
            (&mut self.preempted_ns, other.preempted_ns),
            (&mut self.open_ns, other.open_ns),
        ] {
            *to = to.saturating_add(from);
        }
    }
}

impl ExitGroups {
    /// Creates an empty set of groups. `kind` is the counted kind of event, or `None` for exit
    /// reasons.
    #[must_use]
    pub fn new(by: &[GroupBy], kind: Option<&EventKind>) -> Self {
        Self {
            by: by.to_vec(),
            kind: kind.cloned(),
            ..Self::default()
        }
    }

    /// Selects exit reasons by their codes; `None` selects all. The times of vCPUs include all exits.
    #[must_use]
    pub fn with_reasons(self, reasons: Option<&[u32]>) -> Self {
        Self {
            reasons: reasons.map(<[_]>::to_vec),
            ..self
        }
    }

    /// Adds exits of one thread with one key. `is_halt` returns whether a key is a halt, so that the
    /// idle time of a group is the same for each grouping.
    pub fn add_exits(&mut self, exits: &ThreadExits<'_>, is_halt: impl Fn(Key) -> bool) {
        let reasons = self.reasons.as_ref();
        if reasons.is_none_or(|it| it.iter().any(|code| u64::from(*code) == exits.key.code)) {
            let key = self.event_key(exits);
            let group = self.groups.entry(self.group_key(exits, key)).or_default();
            group.totals.merge(exits.totals);
            let (halted_ns, vmm_ns) = (exits.totals.halted_ns, exits.totals.vmm_ns);
            let ns = idle_ns(halted_ns, vmm_ns, || is_halt(key));
            group.idle_ns = group.idle_ns.saturating_add(ns);
            group.recent.get_or_insert(MinMax::NONE).merge(exits.recent);
            if let Some(causes) = exits.causes {
                group.causes.get_or_insert_default().merge(causes);
            }
        } else {
            let count = self.unselected.entry(exits.key).or_default();
            *count = count.saturating_add(exits.totals.count);
        }
        let vcpu = self
            .vcpus
            .entry(normalize_vcpu_id(exits.vcpu_id))
            .or_default();
        vcpu.exits = vcpu.exits.saturating_add(exits.totals.count);
        for (to, from) in [
            (&mut vcpu.kernel_ns, exits.totals.kernel_ns()),
            (&mut vcpu.vmm_ns, exits.totals.vmm_ns),
            (&mut vcpu.halted_ns, exits.totals.halted_ns),
            (&mut vcpu.preempted_ns, exits.totals.preempted_ns),
        ] {
            *to = to.saturating_add(from);
        }
    }

    fn group_key(&self, exits: &ThreadExits<'_>, key: Key) -> GroupKey {
        let VcpuId { tgid, vcpu, tid } = normalize_vcpu_id(exits.vcpu_id);
        let has = |group| self.by.contains(&group);
        GroupKey {
            host: None,
            tgid: has(GroupBy::Vm).then_some(tgid),
            vcpu: has(GroupBy::Vcpu).then_some((vcpu, tid)),
            key: has(GroupBy::Reason).then_some(key),
        }
    }

    /// Returns the exit reason, or the key of the counted event.
    fn event_key(&self, exits: &ThreadExits<'_>) -> Key {
        self.kind
            .as_ref()
            .map_or(exits.key, |kind| kind.normalize_key(exits.key))
    }

    /// Adds guest time and time of exits in progress, by vCPU thread.
    pub fn add_vcpus(&mut self, vcpus: &[VcpuTimes]) {
        for times in vcpus {
            let vcpu = self
                .vcpus
                .entry(normalize_vcpu_id(times.vcpu_id))
                .or_default();
            vcpu.guest_ns = vcpu.guest_ns.saturating_add(times.guest_ns);
            vcpu.open_ns = vcpu.open_ns.saturating_add(times.open_ns);
        }
    }

    /// Adds the exits of another reading, with other ids: `group_id` and `vcpu_id` return those to use
    /// for its groups and vCPUs, and `cause_kind` returns the one to use for a kind of cause.
    pub(super) fn merge_with_ids(
        &mut self,
        other: &Self,
        mut group_id: impl FnMut(&GroupKey) -> GroupKey,
        mut vcpu_id: impl FnMut(VcpuId) -> VcpuId,
        cause_kind: impl Fn(u32) -> u32,
    ) {
        for (key, from) in &other.groups {
            let to = self.groups.entry(group_id(key)).or_default();
            to.merge(from, &cause_kind);
        }
        for (id, from) in &other.vcpus {
            self.vcpus.entry(vcpu_id(*id)).or_default().add(from);
        }
    }

    /// Returns the number of groups, and that of vCPUs.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.groups.len(), self.vcpus.len())
    }

    /// Returns the exits since an earlier reading with the same grouping. Causes are not subtracted:
    /// they cover the whole measurement.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.since_with(earlier, |group| group.recent.unwrap_or(MinMax::NONE))
    }

    /// Returns the exits since the requested range of a recording started, when `start` was read. The
    /// extremes are those since then already: the replay has reset them.
    #[must_use]
    pub fn since_range_start(&self, start: &Self) -> Self {
        self.since_with(start, |group| group.totals.extremes)
    }

    fn since_with(&self, earlier: &Self, extremes: impl Fn(&GroupStats) -> MinMax) -> Self {
        let zero = GroupStats::default();
        let groups = self.groups.iter().map(|(key, group)| {
            let before = earlier.groups.get(key).map_or(&zero, |it| it);
            let since = GroupStats {
                totals: group.totals.since(&before.totals, extremes(group)),
                idle_ns: group.idle_ns.saturating_sub(before.idle_ns),
                causes: group.causes.clone(),
                recent: group.recent,
            };
            (*key, Box::new(since))
        });
        let vcpus = self.vcpus.iter().map(|(vcpu_id, now)| {
            let before = earlier.vcpus.get(vcpu_id).copied().unwrap_or_default();
            let since = VcpuTotals {
                exits: now.exits.saturating_sub(before.exits),
                guest_ns: now.guest_ns.saturating_sub(before.guest_ns),
                kernel_ns: now.kernel_ns.saturating_sub(before.kernel_ns),
                vmm_ns: now.vmm_ns.saturating_sub(before.vmm_ns),
                halted_ns: now.halted_ns.saturating_sub(before.halted_ns),
                preempted_ns: now.preempted_ns.saturating_sub(before.preempted_ns),
                open_ns: now.open_ns,
            };
            (*vcpu_id, since)
        });
        Self {
            by: self.by.clone(),
            kind: self.kind.clone(),
            reasons: self.reasons.clone(),
            // Only needed for the whole measurement.
            unselected: BTreeMap::new(),
            groups: groups
                .filter(|(_, group)| {
                    let totals = &group.totals;
                    // An exit that ends in the interval may have been counted in an earlier one.
                    totals.count > 0 || totals.untimed > 0 || totals.timed_count() > 0
                })
                .collect(),
            vcpus: vcpus.collect(),
        }
    }

    /// Merges the recent extremes of an older reading that this one replaces. The recent extremes
    /// then cover the time since the reading before the older one.
    pub(in crate::view) fn inherit_extremes(&mut self, older: &Self) {
        for (key, group) in &mut self.groups {
            if let Some(recent) = older.groups.get(key).and_then(|it| it.recent) {
                group.recent.get_or_insert(MinMax::NONE).merge(recent);
            }
        }
    }

    /// Returns the grouping, without duplicates and in the order of [`GroupBy`].
    #[must_use]
    pub fn by(&self) -> Vec<GroupBy> {
        [GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason]
            .into_iter()
            .filter(|group| self.by.contains(group))
            .collect()
    }

    /// Iterates over the groups in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKey, &GroupStats)> {
        self.groups.iter().map(|(key, group)| (key, &**group))
    }

    /// Iterates over the exit reasons that occurred but are not selected, with the number of exits since
    /// the start of the measurement.
    pub fn unselected(&self) -> impl Iterator<Item = (Key, u64)> {
        self.unselected.iter().map(|(key, count)| (*key, *count))
    }

    /// Returns the totals of a group; `None` if it has no exits.
    #[must_use]
    pub fn totals(&self, key: &GroupKey) -> Option<&ExitTotals> {
        self.groups.get(key).map(|group| &group.totals)
    }

    /// Iterates over the vCPUs in the order of their ids.
    pub fn vcpus(&self) -> impl Iterator<Item = (&VcpuId, &VcpuTotals)> {
        self.vcpus.iter()
    }
}

/// Returns the id of a vCPU for use as a key: its TID is 0 if the vCPU index is known, because
/// several threads may run the same vCPU.
pub(in crate::view) fn normalize_vcpu_id(vcpu_id: VcpuId) -> VcpuId {
    VcpuId {
        tid: if vcpu_id.vcpu == VCPU_UNKNOWN {
            vcpu_id.tid
        } else {
            0
        },
        ..vcpu_id
    }
}
