//! Threads that end. All of these are for `sched:sched_process_exit`, which happens in the thread that ends.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    filter,
    maps::{SKIPPED_PROCESSES, THREAD_OF},
    ship,
    task::Task,
    threads,
};

/// Ships its name, which nobody can be asked for later.
#[raw_tracepoint]
fn thread_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if filter::running() && filter::selects_task(task) {
        ship::ship_thread_end(task);
    }
    0
}

/// Gives up a vCPU thread's place, also after the measurement.
#[raw_tracepoint]
fn vcpu_thread_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if let Some(place) = threads::find(task) {
        threads::end(place.thread);
        let _ = THREAD_OF.remove(task.tid);
    }
    0
}

/// Removes a process from the skipped ones when its main thread ends: another process may get its number.
#[raw_tracepoint]
fn process_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if task.tid == task.tgid {
        let _ = SKIPPED_PROCESSES.remove(task.tgid);
    }
    0
}
