//! Values derived from the state and the rows of a vCPU thread. They are the same whether the eBPF
//! programs or a [`Replay`](super::Replay) updated them.

use kvm_ebpf_common::{ExitStats, Key, VcpuThread};

use crate::model::{ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes};

/// Returns the id of the vCPU that a thread runs.
pub(crate) fn vcpu_id_of(thread: &VcpuThread) -> VcpuId {
    VcpuId {
        tgid: thread.tgid(),
        vcpu: thread.vcpu,
        tid: thread.tid(),
    }
}

/// Returns the extremes of the durations in `epoch` and later epochs.
pub(crate) fn recent_extremes(stats: &ExitStats, epoch: u64) -> MinMax {
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

/// Returns the guest time of a running thread, and how long its exit in progress has taken so far.
pub(super) fn vcpu_times(thread: &VcpuThread, now_ns: u64) -> VcpuTimes {
    let since = |ns: u64| {
        if ns == 0 {
            0
        } else {
            now_ns.saturating_sub(ns)
        }
    };
    VcpuTimes {
        vcpu_id: vcpu_id_of(thread),
        guest_ns: (thread.clock.guest_ns).saturating_add(since(thread.clock.guest_since_ns)),
        open_ns: match thread.clock.exit_ns {
            0 => 0,
            _ => since(thread.clock.span_start_ns),
        },
        has_ended: false,
    }
}

/// Passes an exit in progress to `each`. If the vCPU has migrated to another thread, it is an exit
/// without a duration.
pub(super) fn emit_open_exit(
    vcpu_id: VcpuId,
    key: Key,
    has_migrated: bool,
    each: &mut dyn FnMut(&ThreadExits<'_>),
) {
    let totals = if has_migrated {
        ExitTotals::one_untimed()
    } else {
        ExitTotals::one_in_progress()
    };
    each(&ThreadExits {
        vcpu_id,
        key,
        totals: &totals,
        recent: MinMax::NONE,
        causes: None,
    });
}
