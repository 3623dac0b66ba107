//! The processes that the eBPF programs have seen: their ids, VM names, and whether they are
//! selected.

use std::{collections::HashMap, path::Path};

use kvm_ebpf_common::{ThreadNotification, VCPU_THREAD_ADDED, VcpuThread};

use crate::{
    host::{self, VmNames},
    probe::CountedThreadEntry,
    timing::{Selection, Selector},
};

/// The processes that the eBPF programs have seen. They are identified by their
/// [`process_id`](crate::model::process_id), because the kernel reuses the numbers of processes.
#[derive(Debug)]
pub(super) struct Processes {
    names: VmNames,
    selector: Selector,
    /// The process of each entry in the programs' table of vCPU threads.
    by_vcpu_thread: HashMap<u32, u32>,
    /// The process of each entry in the programs' table of counted threads.
    by_counted_thread: HashMap<u32, u32>,
}

impl Processes {
    /// Creates an empty table of processes.
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            names: VmNames::default(),
            selector: Selector::new(selection),
            by_vcpu_thread: HashMap::new(),
            by_counted_thread: HashMap::new(),
        }
    }

    /// Returns the names of the VMs.
    pub(super) fn names(&self) -> &VmNames {
        &self.names
    }

    /// Sets the command that the collector runs; see [`VmNames::set_command`].
    pub(super) fn set_command(&mut self, pid: u32, command: &[String]) {
        self.names.set_command(pid, command);
    }

    /// Adds all VMs that run now, and decides about them. VMs that are not found now are decided at
    /// their first event.
    pub(super) fn add_running_vms(&mut self) {
        let vms = host::vm::list(Path::new("/proc")).map_or(Vec::new(), |list| list.vms);
        for vm in &vms {
            self.add(vm.tgid);
        }
    }

    /// Adds a process by its number, and decides about it.
    pub(super) fn add(&mut self, pid: u32) {
        let process = self.names.add_process(pid, None);
        self.decide(process);
    }

    /// Adds the process of a new thread, and decides about it.
    pub(super) fn add_notification(&mut self, notification: &ThreadNotification) {
        let process = self
            .names
            .add_process(notification.tgid, comm(notification).as_deref());
        let processes = match notification.kind {
            VCPU_THREAD_ADDED => &mut self.by_vcpu_thread,
            _ => &mut self.by_counted_thread,
        };
        processes.insert(notification.index, process);
        self.decide(process);
    }

    /// Decides whether a process is selected. `None` if that depends on its name, which is unknown.
    pub(super) fn decide(&mut self, process: u32) -> Option<bool> {
        let names = &self.names;
        self.selector
            .decide_process(process, &|process| names.find_name(process).cloned())
    }

    /// Decides whether the latest process with this number is selected.
    pub(super) fn decide_latest(&mut self, pid: u32) -> Option<bool> {
        self.decide(self.names.latest(pid))
    }

    /// Returns the processes that were decided not to be selected since the last call.
    pub(super) fn take_newly_skipped(&mut self) -> Vec<u32> {
        self.selector.take_newly_skipped()
    }

    /// Replaces the number of a vCPU thread's process by its process id.
    pub(super) fn with_process_id(&self, index: u32, thread: VcpuThread) -> VcpuThread {
        let process = self.by_vcpu_thread.get(&index).copied();
        let process = process.unwrap_or_else(|| self.names.latest(thread.tgid()));
        VcpuThread {
            owner: u64::from(process) << 32 | u64::from(thread.tid()),
            ..thread
        }
    }

    /// Returns the process id of a counted thread.
    pub(super) fn of_counted_thread(&self, thread: &CountedThreadEntry) -> u32 {
        let process = self.by_counted_thread.get(&thread.index).copied();
        process.unwrap_or_else(|| self.names.latest(thread.tgid))
    }

    /// Removes a vCPU thread. Its entry is reused.
    pub(super) fn remove_vcpu_thread(&mut self, index: u32) {
        self.by_vcpu_thread.remove(&index);
    }

    /// Removes a counted thread. Its entry is reused.
    pub(super) fn remove_counted_thread(&mut self, index: u32) {
        self.by_counted_thread.remove(&index);
    }
}

/// Returns the thread's name from a notification.
fn comm(notification: &ThreadNotification) -> Option<String> {
    let comm = notification.comm.split(|byte| *byte == 0).next()?;
    (!comm.is_empty()).then(|| String::from_utf8_lossy(comm).into_owned())
}
