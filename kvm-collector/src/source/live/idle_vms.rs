//! The running VMs that made no exits, and what they do instead.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use kvm_ebpf_common::VCPU_UNKNOWN;

use super::options::LiveOptions;
use crate::{
    host::{self, ActivityReader, IdleVm, namespaces, vm::Vm},
    timing::Selection,
};

/// How long a list of VMs is used. Listing reads the open files of all processes.
const LIST_PERIOD: Duration = Duration::from_secs(5);

/// Lists the selected VMs that made no exits.
#[derive(Debug)]
pub struct IdleVms {
    selection: Selection,
    activity: ActivityReader,
    /// The selected VMs with their selected vCPUs, and when they were listed.
    vms: Vec<Vm>,
    listed: Instant,
}

impl IdleVms {
    /// Reads the VMs that run at the start of a measurement of exits. `None` if other events are counted: a VM without them may
    /// make exits.
    #[must_use]
    pub fn of(options: &LiveOptions) -> Option<Self> {
        let timing = options.timing.as_ref()?;
        let counts_exits = timing.counted_event.is_none();
        counts_exits.then(|| Self::new(options.selection.clone()))
    }

    fn new(selection: Selection) -> Self {
        let mut idle = Self {
            selection,
            activity: ActivityReader::default(),
            vms: Vec::new(),
            listed: Instant::now(),
        };
        idle.list();
        for vm in &idle.vms {
            idle.activity.read(vm);
        }
        idle
    }

    /// Returns the selected VMs for whose process id `has_exits` returns false, with what their vCPUs do.
    pub fn read(&mut self, has_exits: &dyn Fn(u32) -> bool) -> Vec<IdleVm> {
        self.list();
        self.read_listed(has_exits)
    }

    /// As [`IdleVms::read`], but VMs that started in the last seconds may be missing. For frequent readings.
    pub fn read_often(&mut self, has_exits: &dyn Fn(u32) -> bool) -> Vec<IdleVm> {
        if self.listed.elapsed() >= LIST_PERIOD {
            self.list();
        }
        self.read_listed(has_exits)
    }

    fn read_listed(&mut self, has_exits: &dyn Fn(u32) -> bool) -> Vec<IdleVm> {
        let activity = &mut self.activity;
        let idle = self.vms.iter().filter(|vm| !has_exits(vm.tgid));
        let idle = idle.map(|vm| IdleVm {
            vm: vm.name.clone(),
            pid: vm.tgid,
            vcpus: activity.read(vm),
        });
        idle.collect()
    }

    /// Lists the selected VMs. Without the kernel's process ids there are none, because they could not be compared with
    /// those of exits.
    fn list(&mut self) {
        self.listed = Instant::now();
        let vms = match namespaces::check_kernel_ids() {
            Ok(()) => host::vm::list(Path::new("/proc")).map_or(Vec::new(), |list| list.vms),
            Err(_) => Vec::new(),
        };
        self.vms = vms.into_iter().filter_map(|vm| self.select(vm)).collect();
        self.activity.retain(&self.vms);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::Vcpu, timing::Filter};

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
        let idle = IdleVms {
            selection: Selection {
                filter,
                vms: Vec::new(),
            },
            activity: ActivityReader::default(),
            vms: Vec::new(),
            listed: Instant::now(),
        };
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

    #[test]
    fn vms_with_exits_are_left_out() {
        let mut idle = IdleVms::new(Selection::default());
        idle.vms = vec![vm()];
        assert_eq!(idle.read_listed(&|pid| pid == 4_194_999), []);
        let read = idle.read_listed(&|_| false);
        assert_eq!((read[0].vm.as_str(), read[0].vcpus.len()), ("web", 2));
    }
}
