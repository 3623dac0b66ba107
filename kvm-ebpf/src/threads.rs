//! Which vCPU thread this is.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::{VCPU_THREAD_ADDED, VCPU_THREAD_ENDED, VCPU_UNKNOWN};

use crate::{
    maps::{FREE_THREADS, NEAR_THREAD, THREAD_OF},
    notice, publish,
    task::Task,
    thread_entry::{Entry, at},
    turns,
};

/// The current thread, if it is known to be a vCPU's.
#[inline(always)]
pub(crate) fn find(task: Task) -> Option<Entry> {
    // The idle task's tid is 0, and so is the task of a free entry: never let them match.
    if task.tid == 0 {
        return None;
    }
    // SAFETY: a helper without arguments.
    let near = NEAR_THREAD.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
    // A vCPU tends to stay on its CPU; an array's element is found at once, a hash table's is not.
    // SAFETY: this CPU's, in the map's value. Volatile: a program that interrupts this one may write it. Any index is
    // right, as the entry is checked.
    let near_index = unsafe { read_volatile(near) };
    if let Some(entry) = at(near_index)
        && entry.task == task.both()
    {
        return Some(entry);
    }
    // SAFETY: a copy of a number that the thread itself has put in.
    let index = *unsafe { THREAD_OF.get(task.tid) }?;
    let entry = at(index).filter(|entry| entry.task == task.both())?;
    // SAFETY: as above.
    unsafe { write_volatile(near, index) };
    Some(entry)
}

/// As [`find`], until the thread ends: what happens in it afterwards is not a vCPU's.
#[inline(always)]
pub(crate) fn find_living(task: Task) -> Option<Entry> {
    find(task).filter(|entry| entry.ended == 0)
}

/// The current thread, which is a vCPU's. `None` when there is no entry left for it.
#[inline(always)]
pub(crate) fn find_or_make(task: Task, vcpu: u32) -> Option<Entry> {
    let mut known = find(task);
    if let Some(entry) = &mut known {
        if vcpu == VCPU_UNKNOWN || entry.vcpu == vcpu {
            return known;
        }
        if entry.vcpu == VCPU_UNKNOWN {
            set_vcpu(entry, vcpu);
            return known;
        }
    }
    let mut made = make(task);
    // It runs another vCPU from here on, and has since the last entry. The old entry ends last: user space may clear it
    // then.
    if let Some(mut old) = known {
        if let Some(new) = &mut made {
            old.clock.move_guest_time_to(&mut new.clock);
        }
        old.task = 0;
        mark_ended(&mut old, task);
    }
    if let Some(entry) = &mut made {
        set_vcpu(entry, vcpu);
    }
    made
}

/// Notes which vCPU a thread runs, when that becomes known.
#[inline(always)]
fn set_vcpu(entry: &mut Entry, vcpu: u32) {
    entry.vcpu = vcpu;
    if vcpu != VCPU_UNKNOWN {
        // It enters the vCPU now, or did before the exit that says so.
        turns::record(entry.index);
    }
}

#[inline(always)]
fn make(task: Task) -> Option<Entry> {
    let index = FREE_THREADS.pop().ok()??;
    if THREAD_OF.insert(task.tid, index, 0).is_err() {
        let _ = FREE_THREADS.push(index, 0);
        return None;
    }
    let mut entry = at(index)?;
    // All else is zero, as user space has left it.
    entry.task = task.both();
    // SAFETY: in the map's value.
    unsafe { publish::store_release(&raw mut entry.owner, task.both()) };
    notice::send(VCPU_THREAD_ADDED, index, task);
    Some(entry)
}

/// The thread ends. What still happens in it is counted in its entry, until user space sees that it is gone.
#[inline(always)]
pub(crate) fn end(entry: &mut Entry) {
    let task = Task::of(entry.task);
    mark_ended(entry, task);
}

/// Tells user space that an entry is not needed much longer.
#[inline(always)]
fn mark_ended(entry: &mut Entry, task: Task) {
    // SAFETY: in the map's value.
    unsafe { publish::store_release(&raw mut entry.ended, 1) };
    notice::send(VCPU_THREAD_ENDED, entry.index, task);
}
