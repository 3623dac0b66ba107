//! Exits that are in progress when the running threads are read.

use kvm_ebpf_common::VcpuThread;

use super::{
    ExitedThreads, RunningVcpus,
    vcpu_runs::{last_run_ns, shared_vcpu},
    vcpu_thread::{emit_open_exit, vcpu_id_of, vcpu_times},
};
use crate::model::{ThreadExits, VcpuTimes};

/// Passes the exit in progress of a running thread to `each`, if there is one. Returns the other
/// times of the thread, and whether the exit has no duration because the vCPU has migrated to
/// another thread.
pub(crate) fn read_open_exit(
    thread: &VcpuThread,
    running: &RunningVcpus,
    exited: &ExitedThreads,
    now_ns: u64,
    each: &mut dyn FnMut(&ThreadExits<'_>),
) -> (VcpuTimes, bool) {
    let mut times = vcpu_times(thread, now_ns);
    let has_migrated = has_migrated(thread, running, exited);
    if has_migrated {
        times.open_ns = 0;
    }
    let Some(key) = thread.clock.open_key() else {
        return (times, false);
    };
    emit_open_exit(vcpu_id_of(thread), key, has_migrated, each);
    (times, has_migrated)
}

/// Returns whether another thread has run the vCPU of a running thread since that thread left the
/// guest.
pub(super) fn has_migrated(
    thread: &VcpuThread,
    running: &RunningVcpus,
    exited: &ExitedThreads,
) -> bool {
    let (vcpu, last_ns) = (shared_vcpu(thread), last_run_ns(thread));
    thread.clock.exit_ns != 0
        && (running.has_run_since(vcpu, last_ns) || exited.has_run_since(vcpu, last_ns))
}
