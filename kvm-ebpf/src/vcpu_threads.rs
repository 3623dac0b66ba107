//! The table of vCPU threads: finds, inserts and ends entries.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_smp_processor_id};
use kvm_ebpf_common::{VCPU_THREAD_ADDED, VCPU_THREAD_ENDED, VCPU_UNKNOWN, vcpu_index_in_comm};

use crate::{
    atomics,
    maps::{FREE_VCPU_THREADS, LAST_THREAD_ON_CPU, VCPU_THREAD_BY_TID},
    notification, settings,
    task::Task,
    thread_entry::{self, ThreadEntry},
    vcpu_index_reuse,
};

/// Returns the entry of the current thread, if it is a known vCPU thread.
#[inline(always)]
pub(crate) fn find(task: Task) -> Option<ThreadEntry> {
    // The thread id of the idle tasks is 0, which would match free entries.
    if task.tid == 0 {
        return None;
    }
    // First try the thread that was found on this CPU before: vCPU threads rarely migrate, and an
    // array lookup costs less than a hash lookup.
    // SAFETY: a helper without arguments.
    let last = LAST_THREAD_ON_CPU.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
    // SAFETY: in the value of the map. Volatile, because a program that interrupts this one may write
    // it. A wrong index is harmless, because the task of the entry is compared.
    let last_index = unsafe { read_volatile(last) };
    if let Some(entry) = thread_entry::at(last_index)
        && entry.task == task.pid_tgid()
    {
        return Some(entry);
    }
    // SAFETY: the value is copied. Only this thread inserts it.
    let index = *unsafe { VCPU_THREAD_BY_TID.get(task.tid) }?;
    let entry = thread_entry::at(index).filter(|entry| entry.task == task.pid_tgid())?;
    // SAFETY: as above.
    unsafe { write_volatile(last, index) };
    Some(entry)
}

/// Returns the entry of the current thread, if it is a known vCPU thread that has not ended.
#[inline(always)]
pub(crate) fn find_alive(task: Task) -> Option<ThreadEntry> {
    find(task).filter(|entry| entry.ended == 0)
}

/// Returns the entry of the current thread, which is a vCPU thread, and inserts one if needed. `None`
/// if no entry is free. If no event has the vCPU, a new entry gets it from the thread's name.
#[inline(always)]
pub(crate) fn find_or_insert(task: Task, vcpu: u32) -> Option<ThreadEntry> {
    let mut known = find(task);
    if let Some(entry) = &mut known {
        if vcpu == VCPU_UNKNOWN || entry.vcpu == vcpu {
            return known;
        }
        if entry.vcpu == VCPU_UNKNOWN {
            entry.vcpu = vcpu;
            // The thread enters the vCPU now, or has entered it before the current exit.
            vcpu_index_reuse::set_last_thread(entry.index);
            return known;
        }
    }
    let Some(mut inserted) = insert(task, vcpu) else {
        if let Some(old) = &mut known {
            end_replaced(old, task);
        }
        return None;
    };
    // If the thread has an entry, it runs another vCPU since its last `kvm_entry`. Mark the old entry
    // as ended last, because user space may free it then.
    if let Some(old) = &mut known {
        old.clock.move_guest_time_to(&mut inserted.clock);
        end_replaced(old, task);
    }
    if vcpu != VCPU_UNKNOWN {
        // As above.
        vcpu_index_reuse::set_last_thread(inserted.index);
    }
    Some(inserted)
}

/// Ends the entry of a thread that runs another vCPU now.
#[inline(always)]
fn end_replaced(entry: &mut ThreadEntry, task: Task) {
    entry.task = 0;
    mark_ended(entry, task);
}

/// Returns the vCPU of the current thread by its name. Not inlined, because it is rare.
#[inline(never)]
pub(crate) fn vcpu_in_current_comm() -> u32 {
    bpf_get_current_comm().map_or(VCPU_UNKNOWN, |comm| vcpu_index_in_comm(&comm))
}

#[inline(always)]
fn insert(task: Task, vcpu: u32) -> Option<ThreadEntry> {
    let index = FREE_VCPU_THREADS.pop().ok()??;
    if VCPU_THREAD_BY_TID.insert(task.tid, index, 0).is_err() {
        let _ = FREE_VCPU_THREADS.push(index, 0);
        return None;
    }
    let mut entry = thread_entry::at(index)?;
    // User space has set the other fields to zero.
    entry.task = task.pid_tgid();
    entry.vcpu = vcpu;
    if settings::names_vcpus() {
        entry.vcpu = vcpu_in_current_comm();
        entry.shares_vcpu_index = 1;
    }
    // SAFETY: in the value of the map.
    unsafe { atomics::store_release(&raw mut entry.owner, task.pid_tgid()) };
    notification::send(VCPU_THREAD_ADDED, index, task);
    Some(entry)
}

/// Marks the entry of a thread that is ending. The thread's last events are still counted in it,
/// until user space finds that the thread no longer exists.
#[inline(always)]
pub(crate) fn on_thread_end(entry: &mut ThreadEntry) {
    let task = Task::from_pid_tgid(entry.task);
    mark_ended(entry, task);
}

/// Marks an entry as ended, and notifies user space, which frees it later.
#[inline(always)]
fn mark_ended(entry: &mut ThreadEntry, task: Task) {
    // SAFETY: in the value of the map.
    unsafe { atomics::store_release(&raw mut entry.ended, 1) };
    notification::send(VCPU_THREAD_ENDED, entry.index, task);
}
