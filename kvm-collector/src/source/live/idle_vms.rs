//! The running VMs that made no exits, and what they do instead.

use std::{
    io,
    time::{Duration, Instant},
};

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::options::LiveOptions;
use crate::{
    host::{
        IdleVcpu, IdleVm, VcpuActivity, namespaces,
        vm::Vm,
        vm_lister::{self, VmLister},
    },
    timing::Selection,
};

/// How long a list of VMs is used. Listing reads the open files of all processes.
const LIST_PERIOD: Duration = Duration::from_secs(5);

/// Lists the selected VMs that made no exits.
#[derive(Debug)]
pub struct IdleVms {
    selection: Selection,
    /// The selected VMs with their selected vCPUs.
    vms: Vec<Vm>,
    /// When they were listed; `None` if the list is out of date.
    listed: Option<Instant>,
    /// Number of processes with exits when they were listed.
    processes: usize,
    /// Why VMs cannot be listed any more, as a message.
    failure: Option<String>,
}

impl IdleVms {
    /// Reads the VMs that run at the start of a measurement of exits. `None` if other events are counted: a VM without them may
    /// make exits.
    #[must_use]
    pub fn of(options: &LiveOptions) -> Option<Self> {
        let timing = options.timing.as_ref()?;
        let counts_exits = timing.counted_event.is_none();
        counts_exits.then(|| {
            let mut idle = Self::new(options.selection.clone());
            // The first reading only stores the guest times, to which the next one compares.
            idle.read(0, &|_| false);
            idle
        })
    }

    fn new(selection: Selection) -> Self {
        Self {
            selection,
            vms: Vec::new(),
            listed: None,
            processes: 0,
            failure: None,
        }
    }

    /// Lists the VMs again at the next reading, for one that must not miss a VM that has just started.
    pub fn expire(&mut self) {
        self.listed = None;
    }

    /// Returns the selected VMs for whose process id `has_exits` returns false, with what their vCPUs do; `None` if this
    /// is unknown, because VMs cannot be listed. `processes` is the number of processes that have made exits.
    ///
    /// VMs are listed again every few seconds, and when a process made its first exits. So a VM that has made no exits yet
    /// may be missing in its first seconds.
    pub fn read(
        &mut self,
        processes: usize,
        has_exits: &dyn Fn(u32) -> bool,
    ) -> Option<Vec<IdleVm>> {
        if self.failure.is_some() {
            return None;
        }
        let read = self.try_read(processes, has_exits, &mut vm_lister::shared());
        read.inspect_err(|error| {
            let text =
                format!("VMs without exits are not shown, because they cannot be listed: {error}");
            log::warn!("{text}");
            self.failure = Some(text);
        })
        .ok()
    }

    /// Returns why VMs cannot be listed, if [`IdleVms::read`] has failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn try_read(
        &mut self,
        processes: usize,
        has_exits: &dyn Fn(u32) -> bool,
        lister: &mut VmLister,
    ) -> io::Result<Vec<IdleVm>> {
        let is_recent = |listed: Instant| listed.elapsed() < LIST_PERIOD;
        if processes != self.processes || !self.listed.is_some_and(is_recent) {
            self.list(lister)?;
            self.listed = Some(Instant::now());
            self.processes = processes;
        }
        let idle = self.vms.iter().filter(|vm| !has_exits(vm.tgid));
        let idle = idle.map(|vm| {
            Ok(IdleVm {
                vm: vm.name.clone(),
                vm_uuid: vm.uuid,
                pid: vm.tgid,
                vcpus: with_activity(vm, &lister.read_vcpus(vm.tgid)?),
            })
        });
        idle.collect()
    }

    /// Lists the selected VMs. Without the kernel's process ids there are none, because they could not be compared with
    /// those of exits.
    fn list(&mut self, lister: &mut VmLister) -> io::Result<()> {
        if namespaces::check_kernel_ids().is_err() {
            return Ok(());
        }
        let vms = lister.list()?.vms;
        self.vms = vms.into_iter().filter_map(|vm| self.select(vm)).collect();
        Ok(())
    }

    /// Returns a VM with its selected vCPUs; `None` if it is not selected.
    fn select(&self, mut vm: Vm) -> Option<Vm> {
        if !self.selection.matches_process(vm.tgid, &vm.identity()) {
            return None;
        }
        let filter = &self.selection.filter;
        vm.vcpus
            .retain(|vcpu| filter.matches_vcpu(vcpu.tid, vcpu.index.unwrap_or(VCPU_UNKNOWN)));
        let is_whole = filter.tids.is_empty() && filter.vcpus.is_empty();
        (is_whole || !vm.vcpus.is_empty()).then_some(vm)
    }
}

/// Returns the vCPUs of a VM with what they do. `read` has all vCPUs that are known now.
fn with_activity(vm: &Vm, read: &[IdleVcpu]) -> Vec<IdleVcpu> {
    let vcpus = vm.vcpus.iter().map(|vcpu| {
        let known = read.iter().find(|it| it.tid == vcpu.tid);
        IdleVcpu {
            vcpu: vcpu.index,
            tid: vcpu.tid,
            state: known.map_or(VcpuActivity::Unknown, |it| it.state),
        }
    });
    vcpus.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        host::{Vcpu, fake::FakeRoot, vm_lister::Listing},
        timing::Filter,
    };

    fn vm() -> Vm {
        let vcpu = |index, tid| Vcpu {
            index: Some(index),
            tid,
            comm: String::new(),
        };
        Vm {
            tgid: 4_194_999,
            name: "web".to_owned(),
            uuid: None,
            vmm: "qemu".to_owned(),
            vcpus: vec![vcpu(0, 11), vcpu(1, 12)],
        }
    }

    fn selected_tids(filter: Filter) -> Option<Vec<u32>> {
        let idle = IdleVms::new(Selection {
            filter,
            vms: Vec::new(),
        });
        Some(idle.select(vm())?.vcpus.iter().map(|it| it.tid).collect())
    }

    #[test]
    fn the_selection_applies_to_vms_and_vcpus() {
        assert_eq!(selected_tids(Filter::default()), Some(vec![11, 12]));
        let vcpus = Filter {
            vcpus: vec![1],
            ..Filter::default()
        };
        assert_eq!(selected_tids(vcpus), Some(vec![12]));
        let tids = Filter {
            tids: vec![11],
            ..Filter::default()
        };
        assert_eq!(selected_tids(tids), Some(vec![11]));
        let no_vcpu = Filter {
            vcpus: vec![7],
            ..Filter::default()
        };
        assert_eq!(selected_tids(no_vcpu), None);
        let other = Filter {
            tgids: vec![1],
            ..Filter::default()
        };
        assert_eq!(selected_tids(other), None);
    }

    fn lister(proc: &Path) -> VmLister {
        VmLister::start(proc, Listing::InProcess).unwrap()
    }

    #[test]
    fn vms_with_exits_are_left_out() {
        let tree = FakeRoot::new();
        let mut idle = IdleVms::new(Selection::default());
        idle.vms = vec![vm()];
        idle.listed = Some(Instant::now());
        let mut read = |has_exits: &dyn Fn(u32) -> bool| {
            let vms = idle.try_read(0, has_exits, &mut lister(tree.path()));
            vms.unwrap()
        };
        assert_eq!(read(&|pid| pid == 4_194_999), []);
        let read = read(&|_| false);
        assert_eq!((read[0].vm.as_str(), read[0].vcpus.len()), ("web", 2));
    }

    #[test]
    fn a_failure_is_stored_and_final() {
        let mut idle = IdleVms::new(Selection::default());
        idle.failure = Some("x".to_owned());
        assert_eq!(idle.read(0, &|_| false), None);
        assert_eq!(idle.failure(), Some("x"));
    }

    /// Sets the time of the list, and returns whether the next reading lists again.
    fn lists_again(listed: Option<Instant>, processes: usize) -> bool {
        let missing = Path::new("/nonexistent");
        let mut idle = IdleVms::new(Selection::default());
        (idle.listed, idle.processes) = (listed, 1);
        let read = idle.try_read(processes, &|_| false, &mut lister(missing));
        read.is_err()
    }

    #[test]
    fn vms_are_listed_again_after_seconds_and_for_new_processes() {
        if namespaces::check_kernel_ids().is_err() {
            return;
        }
        let now = Instant::now();
        assert!(!lists_again(Some(now), 1));
        assert!(lists_again(now.checked_sub(LIST_PERIOD), 1));
        assert!(lists_again(Some(now), 2), "a new process");
        assert!(lists_again(None, 1), "the list has expired");
    }
}
