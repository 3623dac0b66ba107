//! vCPU threads that are ready to run, but do not: `sched_switch`.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

use crate::{clock, filter, maps::THREAD_OF, settings, task::Task, threads};

/// The bits of `prev_state` that say that a thread waits for something (`TASK_REPORT`,
/// include/linux/sched.h). Without any of them it is ready; whether it was preempted or went by itself
/// is a bit above.
const WAITS: u64 = 0xff;

#[tracepoint]
fn switched(ctx: TracePointContext) -> u32 {
    let _ = on_switch(&ctx);
    0
}

#[inline(always)]
fn on_switch(ctx: &TracePointContext) -> Option<()> {
    if !filter::running() {
        return None;
    }
    let now_ns = clock::now_ns();
    // The current thread is still the one that is left.
    if let Some(place) = threads::find(Task::current()) {
        // SAFETY: reads kernel memory through a helper that fails instead of faulting.
        let state = unsafe { ctx.read_at::<u64>(settings::prev_state_offset() as usize) };
        if state.ok()? & WAITS == 0 {
            place.thread.clock.switched_out(now_ns);
        }
    }
    // SAFETY: as above.
    let next = unsafe { ctx.read_at::<u32>(settings::next_tid_offset() as usize) }.ok()?;
    // SAFETY: a copy of a number.
    let index = *unsafe { THREAD_OF.get(next) }?;
    // That thread is not running yet: nobody else writes there.
    threads::at(index)?.thread.clock.switched_in(now_ns);
    Some(())
}
