//! Threads that end. All of these are for `sched:sched_process_exit`, which happens in the thread that ends.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{counted, filter, maps::SKIPPED_PROCESSES, ship, task::Task, threads};

/// Ships its name, which nobody can be asked for later.
#[raw_tracepoint]
fn thread_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if filter::running() && filter::selects_task(task) {
        ship::ship_thread_end(task);
    }
    0
}

/// Marks a vCPU thread's entry, also after the measurement.
#[raw_tracepoint]
fn vcpu_thread_end(_ctx: RawTracePointContext) -> u32 {
    if let Some(mut thread) = threads::find(Task::current()) {
        threads::end(&mut thread);
    }
    0
}

/// Marks the entry of a thread whose events are counted by themselves.
#[raw_tracepoint]
fn counted_thread_end(_ctx: RawTracePointContext) -> u32 {
    counted::end(Task::current());
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
