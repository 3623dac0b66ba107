//! Notifications to user space about new and ended threads.
//!
//! They use the kernel's BPF ring buffer, because it wakes user space. User space can then read the
//! name of a VM while the VM still exists. The lock of that buffer does not matter, because
//! notifications are rare.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_ktime_get_ns};
use kvm_ebpf_common::{COMM_BYTES, ThreadNotification};

use crate::{maps::NOTIFICATIONS, task::Task, timing_counters::increment};

/// Sends a notification about the entry of a thread, or counts it as lost.
#[inline(never)]
pub(crate) fn send(kind: u32, index: u32, task: Task) {
    let comm = if Task::current().tid == task.tid {
        bpf_get_current_comm().unwrap_or([0; COMM_BYTES])
    } else {
        [0; COMM_BYTES]
    };
    let notification = ThreadNotification {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        tgid: task.tgid,
        tid: task.tid,
        index,
        kind,
        comm,
    };
    if NOTIFICATIONS
        .output::<ThreadNotification>(notification, 0)
        .is_err()
    {
        increment!(notifications_lost);
    }
}
