//! The selected exits of the `top` view, and how they are grouped into rows.

use kvm_ebpf_common::Key;

use crate::{
    model::VcpuId,
    view::{GroupBy, GroupKey},
};

/// A selection of exits and the grouping of its rows.
///
/// To drill down into a row, its key becomes the new selection, grouped by one of the remaining
/// groupings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The selection: exits match if they match all fields that are set.
    pub within: GroupKey,
    /// The grouping of the rows.
    pub by: GroupBy,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            within: GroupKey::default(),
            by: GroupBy::Vm,
        }
    }
}

impl Scope {
    /// Returns whether exits of a vCPU with a key are selected.
    #[must_use]
    pub fn contains(&self, vcpu_id: VcpuId, key: Key) -> bool {
        self.contains_vcpu(vcpu_id) && self.within.key.is_none_or(|it| it == key)
    }

    /// Returns whether a vCPU is selected. Its id must be normalized (see `normalize_vcpu_id`).
    #[must_use]
    pub fn contains_vcpu(&self, vcpu_id: VcpuId) -> bool {
        self.within.tgid.is_none_or(|it| it == vcpu_id.tgid)
            && self
                .within
                .vcpu
                .is_none_or(|it| it == (vcpu_id.vcpu, vcpu_id.tid))
    }

    /// Returns the key of the row that contains exits of a vCPU with a key.
    #[must_use]
    pub fn row_key(&self, vcpu_id: VcpuId, key: Key) -> GroupKey {
        let by = |group| self.by == group;
        let mut row = self.within;
        if by(GroupBy::Vm) || by(GroupBy::Vcpu) {
            // The index of a vCPU is unique only within its VM.
            row.tgid = Some(vcpu_id.tgid);
        }
        if by(GroupBy::Vcpu) {
            row.vcpu = Some((vcpu_id.vcpu, vcpu_id.tid));
        }
        if by(GroupBy::Reason) {
            row.key = Some(key);
        }
        row
    }

    /// Returns the groupings that the selection does not fix to a single row.
    #[must_use]
    pub fn available_groupings(&self) -> Vec<GroupBy> {
        available_groupings(&self.within)
    }

    /// Returns the same selection with the next available grouping.
    #[must_use]
    pub fn next_grouping(&self) -> Self {
        let groupings = self.available_groupings();
        let index = groupings.iter().position(|it| *it == self.by).unwrap_or(0);
        let by = groupings[(index + 1) % groupings.len().max(1)];
        Self { by, ..*self }
    }

    /// Returns the scope that selects one row, by the first remaining grouping; `None` if none
    /// remains.
    #[must_use]
    pub fn drill_down(&self, row: GroupKey) -> Option<Self> {
        let by = *available_groupings(&row).first()?;
        Some(Self { within: row, by })
    }

    /// Returns the groupings with which the `exits` view makes the same rows.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupBy> {
        let GroupKey {
            tgid, vcpu, key, ..
        } = self.row_key(VcpuId::default(), Key::default());
        [
            tgid.map(|_| GroupBy::Vm),
            vcpu.map(|_| GroupBy::Vcpu),
            key.map(|_| GroupBy::Reason),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn available_groupings(within: &GroupKey) -> Vec<GroupBy> {
    let mut groupings = Vec::new();
    if within.tgid.is_none() {
        groupings.push(GroupBy::Vm);
    }
    if within.vcpu.is_none() {
        groupings.push(GroupBy::Vcpu);
    }
    if within.key.is_none() {
        groupings.push(GroupBy::Reason);
    }
    groupings
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
    fn drilling_down_goes_from_vm_to_vcpu_to_reason() {
        let all = Scope::default();
        let vm = all
            .drill_down(all.row_key(WEB_1, key(1)))
            .expect("vCPUs are left");
        assert_eq!((vm.by, vm.within.tgid), (GroupBy::Vcpu, Some(7)));
        let vcpu = vm
            .drill_down(vm.row_key(WEB_1, key(1)))
            .expect("reasons are left");
        assert_eq!((vcpu.by, vcpu.within.vcpu), (GroupBy::Reason, Some((1, 0))));
        assert!(vcpu.contains(WEB_1, key(2)));
        assert!(!vcpu.contains(VcpuId { vcpu: 0, ..WEB_1 }, key(2)));
        let reason = vcpu.row_key(WEB_1, key(2));
        assert_eq!(vcpu.drill_down(reason), None, "nothing is left");
        assert_eq!(vcpu.groups(), [GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason]);
    }

    #[test]
    fn drilling_down_into_a_reason_groups_by_vm() {
        let mut all = Scope::default();
        while all.by != GroupBy::Reason {
            all = all.next_grouping();
        }
        let reason = all
            .drill_down(all.row_key(WEB_1, key(3)))
            .expect("VMs are left");
        assert_eq!((reason.by, reason.within.key), (GroupBy::Vm, Some(key(3))));
        assert_eq!(reason.next_grouping().by, GroupBy::Vcpu);
        assert_eq!(reason.next_grouping().next_grouping(), reason);
        assert!(!reason.contains(WEB_1, key(4)));
    }

    #[test]
    fn vcpus_of_different_vms_are_different_rows() {
        let scope = Scope::default().next_grouping();
        assert_eq!(scope.by, GroupBy::Vcpu);
        let other = VcpuId { tgid: 8, ..WEB_1 };
        assert_ne!(scope.row_key(WEB_1, key(1)), scope.row_key(other, key(1)));
        assert_eq!(scope.groups(), [GroupBy::Vm, GroupBy::Vcpu]);
    }
}
