//! Which vCPU thread this is.

use core::{
    ops::{Deref, DerefMut},
    ptr::{NonNull, read_volatile, write_volatile},
};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::{NOTICE_VCPU_THREAD, NOTICE_VCPU_THREAD_ENDED, VCPU_UNKNOWN, VcpuThread};

use crate::{
    maps::{FREE_THREADS, NEAR_THREAD, THREAD_OF, THREADS},
    notice, publish,
    task::Task,
    turns,
};

/// A vCPU thread's entry in `THREADS`.
///
/// The programs that change a thread's state run in this thread, which is on one CPU at a time, or switch to it, before it
/// runs. On one CPU, the kernel does not run a classic tracepoint program while another one runs (`bpf_prog_active` in
/// `trace_call_bpf`, kernel/trace/bpf_trace.c), but it runs one in an interrupt of a raw one, and the other way around. Of
/// the raw ones here:
/// - those for `kvm_entry` run with interrupts off (`vcpu_enter_guest`, arch/x86/kvm/x86.c);
/// - `user_exit_raw` marks the entry as [`VcpuThread::busy`], and programs that may run in an interrupt leave it alone then;
/// - `learn_thread` makes an entry, or leaves it alone;
/// - `vcpu_thread_end` stores one word.
///
/// Other threads' entries are read, and one word of them is written (`turns`).
pub(crate) struct Entry {
    pub(crate) index: u32,
    state: NonNull<VcpuThread>,
}

impl Deref for Entry {
    type Target = VcpuThread;

    #[inline(always)]
    fn deref(&self) -> &VcpuThread {
        // SAFETY: the map's value, valid while the program runs.
        unsafe { self.state.as_ref() }
    }
}

impl DerefMut for Entry {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut VcpuThread {
        // SAFETY: the map's value, valid while the program runs. Nobody else changes it meanwhile, see above.
        unsafe { self.state.as_mut() }
    }
}

impl Entry {
    /// Is a program changing the entry that this one interrupts?
    #[inline(always)]
    pub(crate) fn is_busy(&self) -> bool {
        // SAFETY: in the map's value. Volatile: the other program writes it.
        unsafe { read_volatile(&raw const self.busy) != 0 }
    }

    /// Changes the state in a raw tracepoint program, with interrupts on.
    #[inline(always)]
    pub(crate) fn change_busy(&mut self, change: impl FnOnce(&mut VcpuThread)) {
        let busy = &raw mut self.busy;
        // SAFETY: in the map's value. Volatile: an interrupt reads it.
        unsafe { write_volatile(busy, 1) };
        change(self);
        // SAFETY: as above.
        unsafe { write_volatile(busy, 0) };
    }
}

/// The entry at an index.
#[inline(always)]
pub(crate) fn at(index: u32) -> Option<Entry> {
    let state = NonNull::new(THREADS.get_ptr_mut(index)?)?;
    Some(Entry { index, state })
}

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
            old.clock.hand_over_guest_time(&mut new.clock);
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
    notice::send(NOTICE_VCPU_THREAD, index, task);
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
    notice::send(NOTICE_VCPU_THREAD_ENDED, entry.index, task);
}
