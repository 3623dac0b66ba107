//! What the state and the rows of a vCPU thread say, whoever keeps them: the kernel half, or
//! [`Replay`](super::Replay).

use kvm_ebpf_common::{ExitStats, VcpuThread};

use crate::model::{MinMax, VcpuId, VcpuTimes};

/// The vCPU that a thread runs.
pub(crate) fn vcpu_id(thread: &VcpuThread) -> VcpuId {
    VcpuId {
        tgid: thread.tgid(),
        vcpu: thread.vcpu,
        tid: thread.tid(),
    }
}

/// The extremes of an epoch, and of what was counted since it was over.
pub(crate) fn recent(stats: &ExitStats, epoch: u64) -> MinMax {
    let mut recent = MinMax::NONE;
    for extremes in stats.extremes {
        if extremes.epoch >= epoch {
            recent.merge(MinMax {
                min_ns: extremes.min_ns,
                max_ns: extremes.max_ns,
            });
        }
    }
    recent
}

/// What a living thread has done besides its exits.
pub(crate) fn times(thread: &VcpuThread, now_ns: u64) -> VcpuTimes {
    let since = |ns: u64| {
        if ns == 0 {
            0
        } else {
            now_ns.saturating_sub(ns)
        }
    };
    VcpuTimes {
        vcpu_id: vcpu_id(thread),
        guest_ns: (thread.clock.guest_ns).saturating_add(since(thread.clock.guest_since_ns)),
        open_ns: match thread.clock.exit_ns {
            0 => 0,
            _ => since(thread.clock.span_ns),
        },
    }
}
