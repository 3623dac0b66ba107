//! Access to the entry of a vCPU thread, and the rules for concurrent changes.

use core::{
    ops::{Deref, DerefMut},
    ptr::{NonNull, read_volatile, write_volatile},
};

use kvm_ebpf_common::VcpuThread;

use crate::maps::VCPU_THREADS;

/// A vCPU thread's entry in `VCPU_THREADS`.
///
/// Only one program at a time changes an entry. Programs change the entry of the thread in which they
/// run, and a thread runs on one CPU at a time. The program for `sched_switch` also changes the entry
/// of the next thread, before that runs.
///
/// On one CPU, the kernel skips a classic tracepoint program while another one runs
/// (`bpf_prog_active` in `trace_call_bpf`, kernel/trace/bpf_trace.c). But a classic program may run in
/// an interrupt of a raw one, and the other way around. The raw programs here are safe, because:
/// - those for `kvm_entry` run with interrupts disabled (`vcpu_enter_guest`, arch/x86/kvm/x86.c);
/// - `user_exit_raw` sets [`VcpuThread::busy`], and programs that may interrupt it check that;
/// - `learn_thread` inserts an entry, but does not change an existing one;
/// - `vcpu_thread_end` stores one word.
///
/// Programs may read the entries of other threads. They write only one word of them; see
/// [`vcpu_index_reuse`](crate::vcpu_index_reuse).
pub(crate) struct ThreadEntry {
    pub(crate) index: u32,
    thread: NonNull<VcpuThread>,
}

impl Deref for ThreadEntry {
    type Target = VcpuThread;

    #[inline(always)]
    fn deref(&self) -> &VcpuThread {
        // SAFETY: the value of the map, which is valid while the program runs.
        unsafe { self.thread.as_ref() }
    }
}

impl DerefMut for ThreadEntry {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut VcpuThread {
        // SAFETY: the value of the map, which is valid while the program runs. No other program
        // changes it meanwhile; see above.
        unsafe { self.thread.as_mut() }
    }
}

impl ThreadEntry {
    /// Returns whether this program interrupts one that is changing the entry.
    #[inline(always)]
    pub(crate) fn is_busy(&self) -> bool {
        // SAFETY: in the value of the map. Volatile, because the other program writes it.
        unsafe { read_volatile(&raw const self.busy) != 0 }
    }

    /// Changes the entry in a raw tracepoint program that may be interrupted. The entry is marked as
    /// busy meanwhile.
    #[inline(always)]
    pub(crate) fn update_as_busy(&mut self, update: impl FnOnce(&mut VcpuThread)) {
        let busy = &raw mut self.busy;
        // SAFETY: in the value of the map. Volatile, because a program in an interrupt reads it.
        unsafe { write_volatile(busy, 1) };
        update(self);
        // SAFETY: as above.
        unsafe { write_volatile(busy, 0) };
    }
}

/// Returns the entry at an index.
#[inline(always)]
pub(crate) fn at(index: u32) -> Option<ThreadEntry> {
    let thread = NonNull::new(VCPU_THREADS.get_ptr_mut(index)?)?;
    Some(ThreadEntry { index, thread })
}
