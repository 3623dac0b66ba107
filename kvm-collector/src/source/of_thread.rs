//! What the state and the rows of a vCPU thread say, whoever keeps them: the kernel half, or
//! [`Replay`](super::Replay).

use kvm_ebpf_common::{ExitStats, VcpuThread};

use crate::model::{MinMax, VcpuTimes, Whose};

/// Whose its exits are.
pub(super) fn whose(thread: &VcpuThread) -> Whose {
    Whose {
        tgid: thread.tgid(),
        vcpu: thread.vcpu,
        tid: thread.tid(),
    }
}

/// The extremes of an epoch, and of what was counted since it was over.
pub(super) fn recent(stats: &ExitStats, epoch: u64) -> MinMax {
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
pub(super) fn times(thread: &VcpuThread, now_ns: u64) -> VcpuTimes {
    let since = |ns: u64| {
        if ns == 0 {
            0
        } else {
            now_ns.saturating_sub(ns)
        }
    };
    VcpuTimes {
        whose: whose(thread),
        guest_ns: thread.clock.guest_ns + since(thread.clock.guest_since_ns),
        open_ns: match thread.clock.exit_ns {
            0 => 0,
            _ => since(thread.clock.span_ns),
        },
    }
}
