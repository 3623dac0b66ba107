//! The time of the vCPUs that a row is about, by which the cost of its exits is judged.

use std::collections::BTreeMap;

use super::{
    groups::{ExitGroups, GroupKey},
    names::KeyNames,
};

/// Time of vCPUs, by VM and vCPU.
#[derive(Debug, Default)]
pub(super) struct VcpuTime {
    by_key: BTreeMap<GroupKey, u64>,
}

/// Returns the key of a VM or vCPU. vCPUs of all hosts have ids of their own.
fn key_of(tgid: Option<u32>, vcpu: Option<(u32, u32)>) -> GroupKey {
    GroupKey {
        tgid,
        vcpu,
        ..GroupKey::default()
    }
}

impl VcpuTime {
    /// Adds up the time of the vCPUs. `elapsed_ns` returns the time in which the exits of a VM were counted.
    pub(super) fn new(
        groups: &ExitGroups,
        elapsed_ns: impl Fn(&GroupKey) -> u64,
        names: &KeyNames<'_>,
    ) -> Self {
        let mut time = Self::default();
        for (id, totals) in groups.vcpus() {
            let elapsed_ns = elapsed_ns(&key_of(Some(id.tgid), None));
            // A vCPU may exist for a part of the interval. Counted events do not cover the time of a vCPU.
            let vcpu_ns = match names.counted_event {
                Some(_) => elapsed_ns,
                None => totals.known_ns().min(elapsed_ns),
            };
            let vcpu = (id.vcpu, id.tid);
            for tgid in [None, Some(id.tgid)] {
                for vcpu in [None, Some(vcpu)] {
                    let sum = time.by_key.entry(key_of(tgid, vcpu)).or_default();
                    *sum = sum.saturating_add(vcpu_ns);
                }
            }
        }
        time
    }

    /// Returns the time of the VM or vCPU of a row, or of all vCPUs if the row is about neither.
    pub(super) fn of(&self, key: &GroupKey) -> u64 {
        let time = self.by_key.get(&key_of(key.tgid, key.vcpu));
        time.copied().unwrap_or_default()
    }
}
