//! Which exits are in progress when threads are read, where several threads run one vCPU in turn.
//!
//! An exit is in progress until its thread enters the guest again. If another thread has run the vCPU meanwhile, that is
//! no longer so, although the thread itself has not been seen since: such an exit has no time, and is counted as moved.
//! The rule by which threads notice that a vCPU has moved is [`kvm_ebpf_common::turn`].

use std::collections::HashMap;

use kvm_ebpf_common::{Key, VCPU_UNKNOWN, VcpuThread};

use super::{ExitedThreads, times, vcpu_id};
use crate::model::{ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes};

/// Process and vCPU index.
pub(super) type Vcpu = (u32, u32);

/// When vCPUs were last entered or left, by process and index: in living threads.
#[derive(Debug, Default)]
pub(crate) struct RunningVcpus {
    last_turns_ns: HashMap<Vcpu, u64>,
}

impl RunningVcpus {
    /// Of all living threads.
    pub(crate) fn of<'t>(threads: impl Iterator<Item = &'t VcpuThread>) -> Self {
        let mut running = Self::default();
        for thread in threads {
            if let Some(vcpu) = vcpu_of(thread) {
                let last_ns = running.last_turns_ns.entry(vcpu).or_default();
                *last_ns = last_turn_ns(thread).max(*last_ns);
            }
        }
        running
    }

    /// Has a thread run a vCPU since an exit began in another thread?
    pub(super) fn has_run_since(&self, vcpu: Option<Vcpu>, exit_ns: u64) -> bool {
        let last_ns = vcpu.and_then(|vcpu| self.last_turns_ns.get(&vcpu));
        last_ns.is_some_and(|last_ns| *last_ns > exit_ns)
    }

    /// Has the vCPU of a living thread been run by another thread since it left the guest here?
    pub(super) fn has_moved(&self, thread: &VcpuThread, exited: &ExitedThreads) -> bool {
        let (vcpu, last_ns) = (vcpu_of(thread), last_turn_ns(thread));
        thread.clock.exit_ns != 0
            && (self.has_run_since(vcpu, last_ns) || exited.has_run_since(vcpu, last_ns))
    }

    /// Passes on the exit of a living thread that has not ended, if there is one. Returns what the thread did
    /// besides, and whether that exit has no time because the vCPU has moved.
    pub(crate) fn read_thread(
        &self,
        thread: &VcpuThread,
        exited: &ExitedThreads,
        now_ns: u64,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) -> (VcpuTimes, bool) {
        let mut times = times(thread, now_ns);
        let has_moved = self.has_moved(thread, exited);
        if has_moved {
            times.open_ns = 0;
        }
        let Some(key) = thread.clock.open_key() else {
            return (times, false);
        };
        pass_on_open(vcpu_id(thread), key, has_moved, each);
        (times, has_moved)
    }
}

/// Passes on an exit in progress, or one that has no time because its vCPU has moved.
pub(super) fn pass_on_open(
    vcpu_id: VcpuId,
    key: Key,
    has_moved: bool,
    each: &mut dyn FnMut(&ThreadExits<'_>),
) {
    let totals = if has_moved {
        ExitTotals::untimed()
    } else {
        ExitTotals::open()
    };
    each(&ThreadExits {
        vcpu_id,
        key,
        totals: &totals,
        recent: MinMax::NONE,
        causes: None,
    });
}

/// Process and vCPU index of a thread that is checked for turns.
pub(super) fn vcpu_of(thread: &VcpuThread) -> Option<Vcpu> {
    (thread.vcpu != VCPU_UNKNOWN && thread.separate == 0).then(|| (thread.tgid(), thread.vcpu))
}

/// When a thread was last seen to enter or leave its vCPU; also after events were lost.
pub(super) fn last_turn_ns(thread: &VcpuThread) -> u64 {
    thread.clock.guest_since_ns.max(thread.clock.span_ns)
}
