//! Counters for each thread and slot. A thread gets an entry with its first event, and user space frees it after the
//! thread has ended.

use aya_ebpf::bindings::BPF_NOEXIST;
use kvm_ebpf_common::{COUNTED_THREAD_ADDED, COUNTED_THREAD_ENDED, CountedThread};

use crate::{
    maps::{COUNTED_THREAD_OF, COUNTED_THREADS, FREE_COUNTED_THREADS, THREAD_COUNTS},
    notice, publish, settings,
    task::Task,
};

/// One more event of a slot that is about a thread; false when the tables are full.
#[inline(always)]
pub(crate) fn add(slot: usize, task: Task) -> bool {
    // The idle tasks of all CPUs have this number. What interrupts them is no process's, so no VM's.
    if task.tid == 0 {
        return true;
    }
    let Some(index) = find(task).or_else(|| make(task)) else {
        return false;
    };
    #[expect(clippy::cast_possible_truncation, reason = "a slot is below 128")]
    let Some(counter) = THREAD_COUNTS.get_ptr_mut(index * settings::slots() + slot as u32) else {
        return false;
    };
    // SAFETY: in the map's value. Only this thread counts here, on one CPU at a time, and only by the slot's program. But an
    // event of another system is also counted for the thread that it names, by the CPU that another thread is on.
    unsafe {
        if settings::of_vcpus(slot) || settings::interrupts_itself() {
            publish::add(counter, 1);
        } else {
            *counter += 1;
        }
    }
    true
}

/// The entry of a thread.
#[inline(always)]
fn find(task: Task) -> Option<u32> {
    // SAFETY: a copy of a number.
    let index = *unsafe { COUNTED_THREAD_OF.get(task.tid) }?;
    let thread = COUNTED_THREADS.get_ptr_mut(index)?;
    // SAFETY: the map's value. An entry that is being freed has another task, or none.
    (unsafe { (*thread).task } == task.both()).then_some(index)
}

/// Gives a thread an entry, unless it got one meanwhile: in an interrupt, or from a CPU that counts for the same thread.
#[inline(never)]
fn make(task: Task) -> Option<u32> {
    let index = FREE_COUNTED_THREADS.pop().ok()??;
    let thread = COUNTED_THREADS.get_ptr_mut(index)?;
    // SAFETY: the map's value; the entry was free, so it is this program's. All else is zero, as user space has left it.
    unsafe {
        (*thread).task = task.both();
        publish::store_release(&raw mut (*thread).owner, task.both());
    }
    if COUNTED_THREAD_OF
        .insert(task.tid, index, u64::from(BPF_NOEXIST))
        .is_ok()
    {
        notice::send(COUNTED_THREAD_ADDED, index, task);
        return Some(index);
    }
    let other = find(task);
    // The number may also still lead to the entry of a thread that had it before.
    if other.is_none() && COUNTED_THREAD_OF.insert(task.tid, index, 0).is_ok() {
        notice::send(COUNTED_THREAD_ADDED, index, task);
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

/// The thread ends. Events that still happen in it are counted in its entry, until user space sees that it is gone.
#[inline(always)]
pub(crate) fn end(task: Task) {
    if let Some(index) = find(task)
        && let Some(thread) = COUNTED_THREADS.get_ptr_mut(index)
    {
        // SAFETY: the map's value.
        unsafe { publish::store_release(&raw mut (*thread).ended, 1) };
        notice::send(COUNTED_THREAD_ENDED, index, task);
    }
}
