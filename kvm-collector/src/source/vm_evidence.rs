//! Which processes are VMs, as far as their events tell.

use std::collections::HashSet;

use crate::model::capacity::MAX_KNOWN_TASKS;

/// The processes that had events of KVM.
///
/// A process that had an event which only vCPU threads have is a VM. Other events of KVM also happen in other processes, for example
/// in kernel threads that reclaim memory of guests. They only count if no process had an event of a vCPU thread. Events of other
/// systems, such as `sched:sched_switch`, happen in every process and tell nothing, and neither does a name.
#[derive(Debug, Default)]
pub(super) struct VmEvidence {
    vcpu_processes: HashSet<u32>,
    /// Processes with other events of KVM.
    kvm_processes: HashSet<u32>,
    /// Whether there are too many VMs to store. Every process counts as a VM then.
    is_full: bool,
    /// The process of the latest event of a vCPU thread.
    last_vcpu_process: Option<u32>,
}

impl VmEvidence {
    /// Adds an event that only vCPU threads have.
    #[inline]
    pub(super) fn add_vcpu_event(&mut self, tgid: u32) {
        if self.last_vcpu_process == Some(tgid) {
            return;
        }
        self.last_vcpu_process = Some(tgid);
        if self.vcpu_processes.len() < MAX_KNOWN_TASKS {
            self.vcpu_processes.insert(tgid);
        } else {
            self.is_full |= !self.vcpu_processes.contains(&tgid);
        }
    }

    /// Adds another event of KVM.
    #[inline]
    pub(super) fn add_kvm_event(&mut self, tgid: u32) {
        // These events are not needed as soon as there is one of a vCPU thread.
        if self.last_vcpu_process.is_none() && self.kvm_processes.len() < MAX_KNOWN_TASKS {
            self.kvm_processes.insert(tgid);
        }
    }

    /// Returns whether a process is a VM. `is_kernel_thread` tells whether it is known to be no process of a user.
    pub(super) fn is_vm(&self, tgid: u32, is_kernel_thread: bool) -> bool {
        match self.vcpu_processes.is_empty() {
            true => !is_kernel_thread && self.kvm_processes.contains(&tgid),
            false => self.is_full || self.vcpu_processes.contains(&tgid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_vcpu_threads_count_more_than_others() {
        let mut evidence = VmEvidence::default();
        evidence.add_kvm_event(8);
        let found = |it: &VmEvidence| [7, 8, 9].map(|tgid| it.is_vm(tgid, false));
        assert_eq!(found(&evidence), [false, true, false]);
        assert!(!evidence.is_vm(8, true));
        evidence.add_vcpu_event(9);
        evidence.add_kvm_event(7);
        assert_eq!(found(&evidence), [false, false, true]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut evidence = VmEvidence::default();
        let capacity = u32::try_from(MAX_KNOWN_TASKS).expect("a small number");
        for tgid in 0..2 * capacity {
            evidence.add_kvm_event(tgid);
        }
        for tgid in 0..capacity {
            evidence.add_vcpu_event(tgid);
        }
        assert!(!evidence.is_vm(capacity, false));
        evidence.add_vcpu_event(capacity);
        assert!(evidence.is_vm(u32::MAX, false), "the table is full");
        assert_eq!(evidence.vcpu_processes.len(), MAX_KNOWN_TASKS);
        assert_eq!(evidence.kvm_processes.len(), MAX_KNOWN_TASKS);
    }
}
