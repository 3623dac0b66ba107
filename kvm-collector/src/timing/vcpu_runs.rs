//! When vCPUs were last run, by process and vCPU index, to notice that a vCPU has migrated to
//! another thread.
//!
//! Some VMMs run one vCPU in several threads in turn. If another thread has run the vCPU since a
//! thread left the guest, the exit of the first thread is no longer in progress, although that
//! thread had no event since. Such an exit has no duration and is counted as moved.
//! [`kvm_ebpf_common::classify_index_reuse`] is the rule by which a thread itself notices this.

use std::collections::HashMap;

use kvm_ebpf_common::{VCPU_UNKNOWN, VcpuThread};

/// A process and a vCPU index in it.
pub(super) type VcpuIndex = (u32, u32);

/// When vCPUs were last entered or left by threads that still run.
#[derive(Debug, Default)]
pub(crate) struct RunningVcpus {
    last_runs_ns: HashMap<VcpuIndex, u64>,
}

impl RunningVcpus {
    /// Collects the times of all running threads.
    pub(crate) fn from_threads<'t>(threads: impl Iterator<Item = &'t VcpuThread>) -> Self {
        let mut running = Self::default();
        for thread in threads {
            if let Some(vcpu) = shared_vcpu(thread) {
                let last_ns = running.last_runs_ns.entry(vcpu).or_default();
                *last_ns = last_run_ns(thread).max(*last_ns);
            }
        }
        running
    }

    /// Returns whether a running thread has run the vCPU after `time_ns`.
    pub(super) fn has_run_since(&self, vcpu: Option<VcpuIndex>, time_ns: u64) -> bool {
        let last_ns = vcpu.and_then(|vcpu| self.last_runs_ns.get(&vcpu));
        last_ns.is_some_and(|last_ns| *last_ns > time_ns)
    }
}

/// Returns the vCPU of a thread; `None` if it is unknown, or if its index stands for several vCPUs
/// of the process.
pub(super) fn shared_vcpu(thread: &VcpuThread) -> Option<VcpuIndex> {
    (thread.vcpu != VCPU_UNKNOWN && thread.shares_vcpu_index == 0)
        .then(|| (thread.tgid(), thread.vcpu))
}

/// Returns when a thread was last seen to enter or leave its vCPU. Lost events do not reset this
/// time.
pub(super) fn last_run_ns(thread: &VcpuThread) -> u64 {
    thread.clock.guest_since_ns.max(thread.clock.span_start_ns)
}
