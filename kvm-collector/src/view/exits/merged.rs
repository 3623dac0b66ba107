//! The exits of several recordings, which may be of several hosts.

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::{
    groups::{ExitGroups, GroupBy, GroupKey},
    host_rates::{HostShares, RowRates},
};
use crate::model::{
    EventKind, VcpuId, VmName,
    capacity::{MAX_HOST_SHARES, MAX_MERGED_ROWS, MAX_MERGED_VCPUS},
    pid_of,
};
use crate::view::{RecordedHost, RecordedTimes};

/// Sums of the exits of several recordings.
///
/// The ids of VMs in the groups are indices of this table: a process id identifies a VM only on its
/// host.
#[derive(Debug, Default)]
pub struct MergedExits {
    groups: ExitGroups,
    shares: HostShares,
    is_by_host: bool,
    hosts: Vec<Host>,
    vms: Vec<Vm>,
    vm_indices: HashMap<Vm, u32>,
    /// By index of the VM: whether a recording has its preempted time.
    vms_with_preempted: Vec<bool>,
}

/// A host.
#[derive(Debug)]
struct Host {
    id: RecordedHost,
    /// Whether a recording of it has preempted time.
    has_preempted: bool,
    /// How long it was recorded, in ns.
    elapsed_ns: u64,
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
    "the recordings have more than {MAX_MERGED_ROWS} rows or {MAX_MERGED_VCPUS} vCPUs, or rows of too many hosts: group by less (--by), select VMs, or read fewer recordings"
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

    /// Adds the exits of a recording of a host. `has_preempted` tells whether they have preempted time. `vm_name` returns the name
    /// of a VM of the recording, and `cause_kind` the number to use for one of its kinds of causes.
    ///
    /// # Errors
    /// [`TooManyRows`] if the limit is exceeded.
    pub fn add(
        &mut self,
        host: &RecordedHost,
        has_preempted: bool,
        groups: &ExitGroups,
        vm_name: &dyn Fn(u32) -> VmName,
        cause_kind: impl Fn(u32) -> u32,
    ) -> Result<(), TooManyRows> {
        let known_host = self.hosts.iter().position(|it| it.id == *host);
        let host_index = known_host.unwrap_or_else(|| {
            self.hosts.push(Host {
                id: host.clone(),
                has_preempted: false,
                elapsed_ns: 0,
            });
            self.hosts.len() - 1
        });
        self.hosts[host_index].has_preempted |= has_preempted;
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
        for id in ids.values() {
            self.vms_with_preempted[*id as usize] |= has_preempted;
        }
        let vm_id = |tgid: u32| ids.get(&tgid).copied().unwrap_or_default();
        let is_by_host = self.is_by_host;
        let merged_key = |key: &GroupKey| {
            // Without a known index, a vCPU is its thread, which is one of its host.
            let is_thread = key.vcpu.is_some_and(|(index, _)| index == VCPU_UNKNOWN);
            GroupKey {
                host: (is_by_host || is_thread).then_some(host),
                tgid: key.tgid.map(vm_id),
                ..*key
            }
        };
        for (key, group) in groups.iter() {
            let key = merged_key(key);
            if key.host.is_none() && key.tgid.is_none() {
                self.shares.add(key, host, group);
            }
        }
        self.groups.merge_with_ids(
            groups,
            merged_key,
            |id| VcpuId {
                tgid: vm_id(id.tgid),
                ..id
            },
            cause_kind,
        );
        let (rows, vcpus) = self.groups.counts();
        let has_too_many_shares = self.shares.len() > MAX_HOST_SHARES;
        match rows > MAX_MERGED_ROWS || vcpus > MAX_MERGED_VCPUS || has_too_many_shares {
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
        self.vms_with_preempted.push(false);
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

    /// Sets how long each host was recorded.
    pub fn set_times(&mut self, times: &RecordedTimes) {
        for host in &mut self.hosts {
            host.elapsed_ns = times.of_host(&host.id);
        }
    }

    pub(super) fn host(&self, host: u32) -> Option<&RecordedHost> {
        Some(&self.hosts.get(host as usize)?.id)
    }

    /// Returns the host of a VM, if there is more than one host.
    pub(super) fn host_of_vm(&self, vm: u32) -> Option<&RecordedHost> {
        let vm = self.vms.get(vm as usize).filter(|_| self.hosts.len() > 1)?;
        self.host(vm.host)
    }

    /// Returns the host that a row is about; `None` if it is about all.
    fn host_of(&self, key: &GroupKey) -> Option<&Host> {
        let of_vm = || Some(self.vms.get(key.tgid? as usize)?.host);
        self.hosts.get(key.host.or_else(of_vm)? as usize)
    }

    /// Returns how long the host of a row was recorded; `None` if the row is about all hosts.
    pub(super) fn elapsed_ns(&self, key: &GroupKey) -> Option<u64> {
        Some(self.host_of(key)?.elapsed_ns)
    }

    /// Returns the rates of a row; `None` if it is about one host.
    pub(super) fn rates(&self, key: &GroupKey) -> Option<RowRates> {
        if self.hosts.len() < 2 || self.host_of(key).is_some() {
            return None;
        }
        let elapsed_ns = |host: u32| self.hosts.get(host as usize).map_or(0, |it| it.elapsed_ns);
        Some(self.shares.rates(key, elapsed_ns))
    }

    /// Returns whether a recording has the preempted time of a row.
    pub(super) fn has_preempted(&self, key: &GroupKey) -> bool {
        let of_vm = || self.vms_with_preempted.get(key.tgid? as usize).copied();
        let of_host = || Some(self.host_of(key)?.has_preempted);
        let of_all = || self.hosts.iter().any(|it| it.has_preempted);
        of_vm().or_else(of_host).unwrap_or_else(of_all)
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
    use crate::{
        model::{ExitTotals, MinMax, ThreadExits},
        view::RecordedTime,
    };

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
            let (host, groups) = (RecordedHost::Named(host.to_owned()), groups(tgid, &by));
            let result = merged.add(&host, false, &groups, &vm_name, |kind| kind);
            assert_eq!(result, Ok(()));
        }
        let rows: Vec<_> = merged
            .groups()
            .iter()
            .map(|(key, group)| {
                let host = merged.host(key.host.unwrap()).unwrap().label();
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

    #[test]
    fn rows_have_the_time_and_the_preempted_time_of_their_host() {
        let by = [GroupBy::Vm, GroupBy::Reason];
        let host = |name: &str| RecordedHost::Named(name.to_owned());
        let (a, b) = (host("a"), host("b"));
        let mut merged = MergedExits::new(&by, None, true);
        for (host, tgid, has_preempted) in [(&a, 7, true), (&a, 8, false), (&b, 7, false)] {
            let (groups, name) = (groups(tgid, &by), |_: u32| VmName::from("web"));
            let result = merged.add(host, has_preempted, &groups, &name, |kind| kind);
            assert_eq!(result, Ok(()));
        }
        let mut times = RecordedTimes::default();
        times.add(&a, RecordedTime::Length(5));
        times.add(&b, RecordedTime::Length(9));
        merged.set_times(&times);
        let of_rows: Vec<_> = merged
            .groups()
            .iter()
            .map(|(key, _)| (merged.elapsed_ns(key), merged.has_preempted(key)))
            .collect();
        assert_eq!(
            of_rows,
            [(Some(5), true), (Some(5), false), (Some(9), false)]
        );
        let of_host = |host| GroupKey {
            host: Some(host),
            ..GroupKey::default()
        };
        assert!(merged.has_preempted(&of_host(0)) && !merged.has_preempted(&of_host(1)));
        let all = GroupKey::default();
        assert!(merged.has_preempted(&all));
        assert_eq!(merged.elapsed_ns(&all), None);
    }
}
