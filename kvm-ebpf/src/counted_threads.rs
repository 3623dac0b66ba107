//! Event counters per thread and slot.
//!
//! A thread gets an entry at its first event. User space frees the entry after the thread has ended.

use aya_ebpf::bindings::BPF_NOEXIST;
use kvm_ebpf_common::{COUNTED_THREAD_ADDED, COUNTED_THREAD_ENDED, CountedThread};

use crate::{
    atomics,
    maps::{COUNTED_THREAD_BY_TID, COUNTED_THREADS, FREE_COUNTED_THREADS, THREAD_COUNTS},
    notification, settings,
    task::Task,
};

/// Counts an event of a slot for a thread. Returns false if no entry is free.
#[inline(always)]
pub(crate) fn add_event(slot: usize, task: Task) -> bool {
    // The idle tasks of all CPUs have the thread id 0. They belong to no VM.
    if task.tid == 0 {
        return true;
    }
    let Some(index) = find(task).or_else(|| insert(task)) else {
        return false;
    };
    #[expect(clippy::cast_possible_truncation, reason = "a slot is below 128")]
    let Some(counter) = THREAD_COUNTS.get_ptr_mut(index * settings::slot_count() + slot as u32)
    else {
        return false;
    };
    // SAFETY: in the value of the map. Usually only the program of this slot changes the counter, in
    // this thread, which runs on one CPU at a time. But an event of another subsystem, such as
    // `sched_wakeup`, may be counted for a thread that runs on another CPU.
    unsafe {
        if settings::vcpu_threads_only(slot) || settings::raw_can_nest() {
            atomics::add(counter, 1);
        } else {
            *counter += 1;
        }
    }
    true
}

/// Returns the index of a thread's entry.
#[inline(always)]
fn find(task: Task) -> Option<u32> {
    // SAFETY: the value is copied.
    let index = *unsafe { COUNTED_THREAD_BY_TID.get(task.tid) }?;
    let thread = COUNTED_THREADS.get_ptr_mut(index)?;
    // SAFETY: the value of the map. If user space is freeing the entry, its task differs.
    (unsafe { (*thread).task } == task.pid_tgid()).then_some(index)
}

/// Returns the index of a new entry for a thread.
///
/// If an interrupt or another CPU adds an entry for the same thread at the same time, returns that
/// one.
#[inline(never)]
fn insert(task: Task) -> Option<u32> {
    let index = FREE_COUNTED_THREADS.pop().ok()??;
    let thread = COUNTED_THREADS.get_ptr_mut(index)?;
    // SAFETY: the value of the map. No other program uses the entry, because it was free. User space
    // has set its other fields to zero.
    unsafe {
        (*thread).task = task.pid_tgid();
        atomics::store_release(&raw mut (*thread).owner, task.pid_tgid());
    }
    if COUNTED_THREAD_BY_TID
        .insert(task.tid, index, u64::from(BPF_NOEXIST))
        .is_ok()
    {
        notification::send(COUNTED_THREAD_ADDED, index, task);
        return Some(index);
    }
    let other = find(task);
    // The thread id may still belong to the entry of an ended thread. Replace that.
    if other.is_none() && COUNTED_THREAD_BY_TID.insert(task.tid, index, 0).is_ok() {
        notification::send(COUNTED_THREAD_ADDED, index, task);
        return Some(index);
    }
    // SAFETY: as above.
    unsafe {
        *thread = CountedThread {
            task: 0,
            owner: 0,
            ended: 0,
        };
    };
    let _ = FREE_COUNTED_THREADS.push(index, 0);
    other
}

/// Marks the entry of a thread that is ending. The thread's last events are still counted in it,
/// until user space finds that the thread no longer exists.
#[inline(always)]
pub(crate) fn mark_ended(task: Task) {
    if let Some(index) = find(task)
        && let Some(thread) = COUNTED_THREADS.get_ptr_mut(index)
    {
        // SAFETY: the value of the map.
        unsafe { atomics::store_release(&raw mut (*thread).ended, 1) };
        notification::send(COUNTED_THREAD_ENDED, index, task);
    }
}
