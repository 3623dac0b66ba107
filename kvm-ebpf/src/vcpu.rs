//! Which vCPU a thread runs. Few events say it, so it is remembered from `kvm_entry`, which does
//! (on x86 since Linux 2.6.31).

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use kvm_ebpf_common::{NO_OFFSET, ThreadState};

use crate::{filter, maps::THREADS, settings, task::Task};

#[tracepoint]
fn learn_vcpu(ctx: TracePointContext) -> u32 {
    let task = Task::current();
    if filter::passes_task(task) {
        let _ = learn(&ctx, task);
    }
    0
}

/// Remembers the vCPU of this `kvm_entry`. A full map shows as events that belong to no known vCPU.
#[inline(always)]
pub(crate) fn learn(ctx: &TracePointContext, task: Task) -> Option<()> {
    let offset = settings::entry_vcpu_offset();
    if offset == NO_OFFSET {
        return None;
    }
    // SAFETY: reads kernel memory through a helper that fails instead of faulting.
    let vcpu = unsafe { ctx.read_at::<u32>(offset as usize) }.ok()?;
    if let Some(state) = THREADS.get_ptr_mut(task.tid) {
        // SAFETY: this thread's entry, and this thread is here.
        let state = unsafe { &mut *state };
        state.vcpu = vcpu;
        state.tgid = task.tgid;
        return Some(());
    }
    let state = ThreadState {
        exit_ns: 0,
        isa: 0,
        reason: 0,
        vcpu,
        tgid: task.tgid,
    };
    THREADS.insert(task.tid, state, 0).ok()
}
