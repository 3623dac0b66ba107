//! Programs for `sched:sched_process_exit`, which occurs in the thread that ends.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    counted_threads, emit, epoch, filter, maps::SKIPPED_PROCESSES, task::Task, vcpu_threads,
};

/// Emits the name of the thread, which user space cannot read from `/proc` later.
#[raw_tracepoint]
fn thread_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if epoch::is_measuring() && filter::selects_task(task) {
        emit::emit_thread_end(task);
    }
    0
}

/// Marks the entry of a vCPU thread as ended, also while nothing is measured.
#[raw_tracepoint]
fn vcpu_thread_end(_ctx: RawTracePointContext) -> u32 {
    if let Some(mut entry) = vcpu_threads::find(Task::current()) {
        vcpu_threads::on_thread_end(&mut entry);
    }
    0
}

/// Marks the entry of a counted thread as ended.
#[raw_tracepoint]
fn counted_thread_end(_ctx: RawTracePointContext) -> u32 {
    counted_threads::mark_ended(Task::current());
    0
}

/// Removes a process from the skipped ones when its main thread ends, because another process may get
/// its id.
#[raw_tracepoint]
fn process_end(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if task.tid == task.tgid {
        let _ = SKIPPED_PROCESSES.remove(task.tgid);
    }
    0
}
