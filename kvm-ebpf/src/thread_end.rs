//! Names of threads that end, for `trace`.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{filter, ship, task::Task};

/// For `sched:sched_process_exit`, which happens in the thread that ends.
#[raw_tracepoint]
fn thread_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if filter::running() && filter::passes_task(task) {
        ship::ship_thread_end(task);
    }
    0
}
