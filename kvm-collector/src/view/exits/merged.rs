//! The exits of several recordings, which may be of several hosts.

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::groups::{ExitGroups, GroupBy, GroupKey};
use crate::model::{
    EventKind, VcpuId, VmName,
    capacity::{MAX_MERGED_ROWS, MAX_MERGED_VCPUS},
    pid_of,
};

/// Sums of the exits of several recordings.
///
/// The ids of VMs in the groups are indices of this table: a process id identifies a VM only on its
/// host.
#[derive(Debug, Default)]
pub struct MergedExits {
    groups: ExitGroups,
    is_by_host: bool,
    hosts: Vec<String>,
    vms: Vec<Vm>,
    vm_indices: HashMap<Vm, u32>,
}

/// A VM. The VMs in several recordings of a host are the same if their process ids, names and UUIDs are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Vm {
    host: u32,
    pid: u32,
    name: VmName,
}

/// The recordings have more rows than fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the recordings have more than {MAX_MERGED_ROWS} rows or {MAX_MERGED_VCPUS} vCPUs: group by less (--by), select VMs, or read fewer recordings"
)]
pub struct TooManyRows;

impl MergedExits {
    /// Creates an empty sum. `by` is the grouping of the recordings' groups, and `kind` the counted kind
    /// of event. `is_by_host` also groups by host.
    #[must_use]
    pub fn new(by: &[GroupBy], kind: Option<&EventKind>, is_by_host: bool) -> Self {
        Self {
            groups: ExitGroups::new(by, kind),
            is_by_host,
            ..Self::default()
        }
    }

    /// Adds the exits of a recording of a host. `vm_name` returns the name of a VM of the recording, and
    /// `cause_kind` the number to use for one of its kinds of causes.
    ///
    /// # Errors
    /// [`TooManyRows`] if the limit is exceeded.
    pub fn add(
        &mut self,
        host: &str,
        groups: &ExitGroups,
        vm_name: &dyn Fn(u32) -> VmName,
        cause_kind: impl Fn(u32) -> u32,
    ) -> Result<(), TooManyRows> {
        let known_host = self.hosts.iter().position(|it| it == host);
        let host_index = known_host.unwrap_or_else(|| {
            self.hosts.push(host.to_owned());
            self.hosts.len() - 1
        });
        let host = u32::try_from(host_index).map_err(|_| TooManyRows)?;
        // All VMs of the recording get their ids first: groups and vCPUs have the same VMs.
        let vms = groups.iter().filter_map(|(key, _)| key.tgid);
        let vms = vms.chain(groups.vcpus().map(|(id, _)| id.tgid));
        let mut ids = HashMap::new();
        for tgid in vms {
            if let std::collections::hash_map::Entry::Vacant(entry) = ids.entry(tgid) {
                entry.insert(self.vm_index(Vm {
                    host,
                    pid: pid_of(tgid),
                    name: vm_name(tgid),
                })?);
            }
        }
        let vm_id = |tgid: u32| ids.get(&tgid).copied().unwrap_or_default();
        let is_by_host = self.is_by_host;
        self.groups.merge_with_ids(
            groups,
            |key| {
                // Without a known index, a vCPU is its thread, which is one of its host.
                let is_thread = key.vcpu.is_some_and(|(index, _)| index == VCPU_UNKNOWN);
                GroupKey {
                    host: (is_by_host || is_thread).then_some(host),
                    tgid: key.tgid.map(vm_id),
                    ..*key
                }
            },
            |id| VcpuId {
                tgid: vm_id(id.tgid),
                ..id
            },
            cause_kind,
        );
        let (rows, vcpus) = self.groups.counts();
        match rows > MAX_MERGED_ROWS || vcpus > MAX_MERGED_VCPUS {
            true => Err(TooManyRows),
            false => Ok(()),
        }
    }

    fn vm_index(&mut self, vm: Vm) -> Result<u32, TooManyRows> {
        if let Some(index) = self.vm_indices.get(&vm) {
            return Ok(*index);
        }
        let index = u32::try_from(self.vms.len()).map_err(|_| TooManyRows)?;
        self.vms.push(vm.clone());
        self.vm_indices.insert(vm, index);
        Ok(index)
    }

    /// Returns the exits.
    #[must_use]
    pub fn groups(&self) -> &ExitGroups {
        &self.groups
    }

    pub(super) fn is_by_host(&self) -> bool {
        self.is_by_host
    }

    pub(super) fn host_name(&self, host: u32) -> &str {
        let host = self.hosts.get(host as usize);
        host.map_or("", String::as_str)
    }

    /// Returns the host of a VM, if there is more than one host.
    pub(super) fn host_of_vm(&self, vm: u32) -> Option<&str> {
        let vm = self.vms.get(vm as usize).filter(|_| self.hosts.len() > 1)?;
        Some(self.host_name(vm.host))
    }

    /// Returns the name and the process id of a VM.
    pub(super) fn vm(&self, vm: u32) -> (VmName, u32) {
        let vm = self.vms.get(vm as usize);
        vm.map_or_else(|| (VmName::unknown(), 0), |vm| (vm.name.clone(), vm.pid))
    }
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::Key;

    use super::*;
    use crate::model::{ExitTotals, MinMax, ThreadExits};

    fn groups(tgid: u32, by: &[GroupBy]) -> ExitGroups {
        let mut groups = ExitGroups::new(by, None);
        let exits = ThreadExits {
            vcpu_id: VcpuId {
                tgid,
                vcpu: 0,
                tid: 9,
            },
            key: Key::default(),
            totals: &ExitTotals::one_untimed(),
            recent: MinMax::NONE,
            causes: None,
        };
        groups.add_exits(&exits, |_| false);
        groups
    }

    #[test]
    fn vms_of_different_hosts_or_names_are_different() {
        let by = [GroupBy::Vm, GroupBy::Reason];
        let mut merged = MergedExits::new(&by, None, true);
        for (host, tgid, name) in [
            ("a", 7, "web"),
            ("b", 7, "web"),
            ("a", 7, "web"),
            ("a", 7, "db"),
            ("a", 8, "web"),
        ] {
            let vm_name = |_: u32| VmName::from(name);
            let result = merged.add(host, &groups(tgid, &by), &vm_name, |kind| kind);
            assert_eq!(result, Ok(()));
        }
        let rows: Vec<_> = merged
            .groups()
            .iter()
            .map(|(key, group)| {
                let host = merged.host_name(key.host.unwrap());
                let (name, pid) = merged.vm(key.tgid.unwrap());
                (host, name.name, pid, group.totals.count)
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("a", "web".into(), 7, 2),
                ("a", "db".into(), 7, 1),
                ("a", "web".into(), 8, 1),
                ("b", "web".into(), 7, 1)
            ]
        );
        assert_eq!(merged.groups().vcpus().count(), 4);
    }
}
