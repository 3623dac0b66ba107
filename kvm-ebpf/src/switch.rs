//! vCPU threads that are ready to run, but do not: `sched_switch`.

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{FieldId, is_waiting};

use crate::{
    classic::classic, clock, field, filter, maps::THREAD_OF, task::Task, thread_entry, threads,
};

classic! {
    fn switched(ctx) {
        let _ = on_switch(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a tid has 4 bytes")]
fn on_switch(ctx: &TracePointContext) -> Option<()> {
    if !filter::running() {
        return None;
    }
    let now_ns = clock::now_ns();
    // The current thread is still the one that is left.
    if let Some(mut entry) = threads::find(Task::current())
        && !is_waiting(field::read(ctx, FieldId::SwitchPrevState))
    {
        entry.clock.on_switch_out(now_ns);
    }
    let next = field::read(ctx, FieldId::SwitchNextTid) as u32;
    // SAFETY: a copy of a number.
    let index = *unsafe { THREAD_OF.get(next) }?;
    // That thread is not running yet: nobody else writes there.
    thread_entry::at(index)?.clock.on_switch_in(now_ns);
    Some(())
}
