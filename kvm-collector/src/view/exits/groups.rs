//! Exits put together: which of them make up one row.

use std::collections::BTreeMap;

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use crate::model::{Causes, ExitTotals, EventKind, MinMax, ThreadExits, VcpuId, VcpuTimes};

/// What rows are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The VM: the VMM's process.
    Vm,
    /// The vCPU (its index, or the thread where that is not known).
    Vcpu,
    /// Why the guest was left, or what else is counted.
    Reason,
}

impl Group {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Vcpu => "vcpu",
            Self::Reason => "reason",
        }
    }
}

/// What the exits of a row have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The process, if rows are told apart by VM.
    pub tgid: Option<u32>,
    /// The vCPU's index, if rows are told apart by vCPU; with the thread where the index is not known.
    pub vcpu: Option<(u32, u32)>,
    /// Why, or what, if rows are told apart by that.
    pub key: Option<Key>,
}

/// The exits of one row.
#[derive(Debug, Clone, Default)]
pub struct Grouped {
    /// How many, and how long.
    pub totals: ExitTotals,
    /// The most frequent causes, where they were asked for.
    pub causes: Option<Causes>,
    recent: Option<MinMax>,
}

/// Exits by what they have in common, and the vCPUs they are of.
#[derive(Debug, Clone, Default)]
pub struct ExitGroups {
    by: Vec<Group>,
    kind: Option<EventKind>,
    /// On the heap one by one: a tree moves what it holds, and has half of its nodes empty.
    groups: BTreeMap<GroupKey, Box<Grouped>>,
    vcpus: BTreeMap<VcpuId, VcpuTotals>,
}

/// Where the time of a vCPU went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTotals {
    /// Its exits.
    pub exits: u64,
    /// In the guest.
    pub guest_ns: u64,
    /// In the kernel, on behalf of the guest.
    pub kernel_ns: u64,
    /// In the VMM's user space.
    pub vmm_ns: u64,
    /// Halted.
    pub halted_ns: u64,
    /// Ready but not running.
    pub preempted_ns: u64,
    /// Out of the guest and not back yet: what for will be known when it is.
    pub open_ns: u64,
}

impl ExitGroups {
    /// Nothing yet. `kind` is what is counted, if it is not exits by their reason.
    #[must_use]
    pub fn new(by: &[Group], kind: Option<&EventKind>) -> Self {
        Self {
            by: by.to_vec(),
            kind: kind.cloned(),
            ..Self::default()
        }
    }

    /// Takes in what a source hands over.
    pub fn add(&mut self, exits: &ThreadExits<'_>) {
        let group = self.groups.entry(self.group_key(exits)).or_default();
        group.totals.merge(exits.totals);
        group.recent.get_or_insert(MinMax::NONE).merge(exits.recent);
        if let Some(causes) = exits.causes {
            group.causes.get_or_insert_default().merge(causes);
        }
        let vcpu = self.vcpus.entry(vcpu(exits.vcpu_id)).or_default();
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

    fn group_key(&self, exits: &ThreadExits<'_>) -> GroupKey {
        let VcpuId { tgid, vcpu, tid } = vcpu(exits.vcpu_id);
        let has = |group| self.by.contains(&group);
        let key = self
            .kind
            .as_ref()
            .map_or(exits.key, |kind| kind.normalize_key(exits.key));
        GroupKey {
            tgid: has(Group::Vm).then_some(tgid),
            vcpu: has(Group::Vcpu).then_some((vcpu, tid)),
            key: has(Group::Reason).then_some(key),
        }
    }

    /// Takes in what vCPUs did besides.
    pub fn add_vcpus(&mut self, vcpus: &[VcpuTimes]) {
        for times in vcpus {
            let vcpu = self.vcpus.entry(vcpu(times.vcpu_id)).or_default();
            vcpu.guest_ns = vcpu.guest_ns.saturating_add(times.guest_ns);
            vcpu.open_ns = vcpu.open_ns.saturating_add(times.open_ns);
        }
    }

    /// What came after an earlier reading, by the same groups.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let nothing = ExitTotals::default();
        let groups = self.groups.iter().map(|(key, group)| {
            let before = earlier.groups.get(key).map_or(&nothing, |it| &it.totals);
            let recent = group.recent.unwrap_or(MinMax::NONE);
            let since = Grouped {
                totals: group.totals.since(before, recent),
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
            groups: groups
                .filter(|(_, group)| group.totals.count > 0 || group.totals.timed_count() > 0)
                .collect(),
            vcpus: vcpus.collect(),
        }
    }

    /// Takes over the extremes since the reading before an older one: they are now the extremes since that reading.
    pub(in crate::view) fn inherit_extremes(&mut self, older: &Self) {
        for (key, group) in &mut self.groups {
            if let Some(recent) = older.groups.get(key).and_then(|it| it.recent) {
                group.recent.get_or_insert(MinMax::NONE).merge(recent);
            }
        }
    }

    /// What they are told apart by, each once and in the order of [`Group`].
    #[must_use]
    pub fn by(&self) -> Vec<Group> {
        [Group::Vm, Group::Vcpu, Group::Reason]
            .into_iter()
            .filter(|group| self.by.contains(group))
            .collect()
    }

    /// The groups.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupKey, &Grouped)> {
        self.groups.iter().map(|(key, group)| (key, &**group))
    }

    /// The totals of a group.
    #[must_use]
    pub fn get(&self, key: &GroupKey) -> Option<&ExitTotals> {
        self.groups.get(key).map(|group| &group.totals)
    }

    /// The vCPUs.
    pub fn vcpus(&self) -> impl Iterator<Item = (&VcpuId, &VcpuTotals)> {
        self.vcpus.iter()
    }
}

/// A vCPU goes by its index where that is known, and by its thread otherwise.
pub(in crate::view) fn vcpu(vcpu_id: VcpuId) -> VcpuId {
    VcpuId {
        tid: if vcpu_id.vcpu == VCPU_UNKNOWN {
            vcpu_id.tid
        } else {
            0
        },
        ..vcpu_id
    }
}
