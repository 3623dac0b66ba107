//! The program for `sched_switch`, which measures how long a vCPU thread is preempted: runnable, but
//! not running.

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{FieldId, is_waiting};

use crate::{
    clock, epoch, field, maps::VCPU_THREAD_BY_TID, task::Task, thread_entry,
    tracepoint::tracepoint, vcpu_threads,
};

tracepoint! {
    fn switched(ctx) {
        let _ = on_switch(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a tid has 4 bytes")]
fn on_switch(ctx: &TracePointContext) -> Option<()> {
    if !epoch::is_measuring() {
        return None;
    }
    let now_ns = clock::now_ns();
    // At this event, the current thread is still the previous one.
    if let Some(mut entry) = vcpu_threads::find(Task::current())
        && !is_waiting(field::read(ctx, FieldId::SwitchPrevState))
    {
        entry.clock.on_switch_out(now_ns);
    }
    let next = field::read(ctx, FieldId::SwitchNextTid) as u32;
    // SAFETY: the value is copied.
    let index = *unsafe { VCPU_THREAD_BY_TID.get(next) }?;
    // The next thread does not run yet, so no other program changes its entry.
    thread_entry::at(index)?.clock.on_switch_in(now_ns);
    Some(())
}
