//! Notices to user space: a thread is new in a table, or has ended.
//!
//! They are rare, so they go through the kernel's own ring buffer: it takes a lock, but it wakes user space, which reads a
//! VM's name while the VM lives.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_ktime_get_ns};
use kvm_ebpf_common::{COMM_BYTES, ThreadNotification};

use crate::{counters::increment, maps::NOTICES, task::Task};

/// Sends a notice about a thread's entry. One that cannot be sent is counted.
#[inline(never)]
pub(crate) fn send(kind: u32, index: u32, task: Task) {
    let comm = if Task::current().tid == task.tid {
        bpf_get_current_comm().unwrap_or([0; COMM_BYTES])
    } else {
        [0; COMM_BYTES]
    };
    let notice = ThreadNotification {
        // SAFETY: a helper without arguments.
        time_ns: unsafe { bpf_ktime_get_ns() },
        tgid: task.tgid,
        tid: task.tid,
        index,
        kind,
        comm,
    };
    if NOTICES.output::<ThreadNotification>(notice, 0).is_err() {
        increment!(notifications_lost);
    }
}
