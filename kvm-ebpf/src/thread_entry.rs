//! The state of one vCPU thread, and which programs may change it.

use core::{
    ops::{Deref, DerefMut},
    ptr::{NonNull, read_volatile, write_volatile},
};

use kvm_ebpf_common::VcpuThread;

use crate::maps::THREADS;

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
