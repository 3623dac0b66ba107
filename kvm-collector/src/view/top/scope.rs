//! What is looked at: whose exits, and what their rows are told apart by.

use kvm_ebpf_common::Key;

use crate::{
    model::VcpuId,
    view::{Group, GroupKey},
};

/// A part of all exits, in rows.
///
/// Drilling down is to take one row for the new whole, and to tell its exits apart by what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// What all exits looked at have in common.
    pub within: GroupKey,
    /// What rows are told apart by.
    pub by: Group,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            within: GroupKey::default(),
            by: Group::Vm,
        }
    }
}

impl Scope {
    /// Are these exits looked at?
    #[must_use]
    pub fn contains(&self, vcpu_id: VcpuId, key: Key) -> bool {
        self.contains_vcpu(vcpu_id) && self.within.key.is_none_or(|it| it == key)
    }

    /// Is this vCPU looked at? It must go by what it is told by (see [`vcpu`]).
    #[must_use]
    pub fn contains_vcpu(&self, vcpu_id: VcpuId) -> bool {
        self.within.tgid.is_none_or(|it| it == vcpu_id.tgid)
            && self
                .within
                .vcpu
                .is_none_or(|it| it == (vcpu_id.vcpu, vcpu_id.tid))
    }

    /// The row in which exits are.
    #[must_use]
    pub fn row_key(&self, vcpu_id: VcpuId, key: Key) -> GroupKey {
        let by = |group| self.by == group;
        let mut row = self.within;
        if by(Group::Vm) || by(Group::Vcpu) {
            // Two VMs' vCPUs of one index are two.
            row.tgid = Some(vcpu_id.tgid);
        }
        if by(Group::Vcpu) {
            row.vcpu = Some((vcpu_id.vcpu, vcpu_id.tid));
        }
        if by(Group::Reason) {
            row.key = Some(key);
        }
        row
    }

    /// What rows here can be told apart by: what they do not have in common anyhow.
    #[must_use]
    pub fn available_groupings(&self) -> Vec<Group> {
        choices(&self.within)
    }

    /// The same exits, told apart by the next thing.
    #[must_use]
    pub fn next_grouping(&self) -> Self {
        let choices = self.available_groupings();
        let at = choices.iter().position(|it| *it == self.by).unwrap_or(0);
        let by = choices[(at + 1) % choices.len().max(1)];
        Self { by, ..*self }
    }

    /// A row of these, told apart by what is left; `None` where nothing is.
    #[must_use]
    pub fn drill_down(&self, row: GroupKey) -> Option<Self> {
        let by = *choices(&row).first()?;
        Some(Self { within: row, by })
    }

    /// The groups by which `exits` would make the same rows.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let GroupKey { tgid, vcpu, key } = self.row_key(VcpuId::default(), Key::default());
        [
            tgid.map(|_| Group::Vm),
            vcpu.map(|_| Group::Vcpu),
            key.map(|_| Group::Reason),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn choices(within: &GroupKey) -> Vec<Group> {
    let mut choices = Vec::new();
    if within.tgid.is_none() {
        choices.push(Group::Vm);
    }
    if within.vcpu.is_none() {
        choices.push(Group::Vcpu);
    }
    if within.key.is_none() {
        choices.push(Group::Reason);
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB_1: VcpuId = VcpuId {
        tgid: 7,
        vcpu: 1,
        tid: 0,
    };

    fn key(code: u64) -> Key {
        Key {
            code,
            ..Key::default()
        }
    }

    #[test]
    fn a_vm_divides_into_vcpus_and_these_into_reasons() {
        let all = Scope::default();
        let vm = all
            .drill_down(all.row_key(WEB_1, key(1)))
            .expect("vCPUs are left");
        assert_eq!((vm.by, vm.within.tgid), (Group::Vcpu, Some(7)));
        let vcpu = vm
            .drill_down(vm.row_key(WEB_1, key(1)))
            .expect("reasons are left");
        assert_eq!((vcpu.by, vcpu.within.vcpu), (Group::Reason, Some((1, 0))));
        assert!(vcpu.contains(WEB_1, key(2)));
        assert!(!vcpu.contains(VcpuId { vcpu: 0, ..WEB_1 }, key(2)));
        let reason = vcpu.row_key(WEB_1, key(2));
        assert_eq!(vcpu.drill_down(reason), None, "nothing is left");
        assert_eq!(vcpu.groups(), [Group::Vm, Group::Vcpu, Group::Reason]);
    }

    #[test]
    fn a_reason_divides_into_vms() {
        let mut all = Scope::default();
        while all.by != Group::Reason {
            all = all.next_grouping();
        }
        let reason = all.drill_down(all.row_key(WEB_1, key(3))).expect("VMs are left");
        assert_eq!((reason.by, reason.within.key), (Group::Vm, Some(key(3))));
        assert_eq!(reason.next_grouping().by, Group::Vcpu);
        assert_eq!(reason.next_grouping().next_grouping(), reason);
        assert!(!reason.contains(WEB_1, key(4)));
    }

    #[test]
    fn vcpus_of_all_vms_are_told_apart_by_their_vm() {
        let scope = Scope::default().next_grouping();
        assert_eq!(scope.by, Group::Vcpu);
        let other = VcpuId { tgid: 8, ..WEB_1 };
        assert_ne!(scope.row_key(WEB_1, key(1)), scope.row_key(other, key(1)));
        assert_eq!(scope.groups(), [Group::Vm, Group::Vcpu]);
    }
}
