//! Counting: for each CPU a table of all slots, and on request counters for each thread and slot.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_map_lookup_elem};
use kvm_ebpf_common::{MAX_SLOTS, SlotCounts, SlotTable};

use crate::{
    counted,
    maps::{RAW_SLOT_COUNTS, SLOT_COUNTS},
    publish, settings,
    task::Task,
};

/// The index of the only value of `RAW_SLOT_COUNTS`: in memory that is always there. aya's own way writes it to the
/// stack for each look.
static ONLY: u32 = 0;

/// One CPU's counters of one slot.
///
/// Only one program counts in a slot, and programs run with migration off. On one CPU a program does not interrupt
/// itself: the kernel skips a classic tracepoint program while any other one runs there (`bpf_prog_active` in
/// `trace_call_bpf`, kernel/trace/bpf_trace.c), and a raw one while the same one runs (`prog->active` in
/// `__bpf_trace_run`, since Linux 6.1). So nobody else writes these counters meanwhile. Before 6.1, a raw program can
/// interrupt itself; then they are added to in one instruction.
#[derive(Clone, Copy)]
pub(crate) struct Counter(*mut SlotCounts);

impl Counter {
    /// This CPU's counters of a slot.
    #[inline(always)]
    pub(crate) fn of_slot(slot: usize) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let table = SLOT_COUNTS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
        // SAFETY: within the map's value, which is valid while the program runs; a slot is below `MAX_SLOTS`.
        Some(Self(unsafe {
            (&raw mut (*table).slots)
                .cast::<SlotCounts>()
                .add(slot % MAX_SLOTS)
        }))
    }

    /// The same for a raw program, which counts elsewhere.
    #[inline(always)]
    pub(crate) fn of_raw_slot(slot: usize) -> Option<Self> {
        // SAFETY: a map and its key.
        let table = unsafe {
            bpf_map_lookup_elem(
                (&raw const RAW_SLOT_COUNTS).cast_mut().cast(),
                (&raw const ONLY).cast(),
            )
        };
        // SAFETY: the map's value, valid while the program runs; a slot is below `MAX_SLOTS`.
        let table = unsafe { table.cast::<SlotTable>().as_mut() }?;
        Some(Self(&raw mut table.slots[slot % MAX_SLOTS]))
    }

    /// One more event that passed the filters.
    #[inline(always)]
    pub(crate) fn add_seen(self) {
        // SAFETY: within the map's value.
        increment(unsafe { &raw mut (*self.0).seen });
    }

    /// The same, where it is known that a program does not interrupt itself.
    #[inline(always)]
    pub(crate) fn add_seen_simply(self) {
        // SAFETY: within the map's value; see `Counter` about who writes it.
        unsafe { (*self.0).seen += 1 };
    }

    /// One more that could not be stored.
    #[inline(always)]
    pub(crate) fn add_lost(self) {
        // SAFETY: within the map's value.
        increment(unsafe { &raw mut (*self.0).lost });
    }

    /// One more of a thread whose vCPU is not known.
    #[inline(always)]
    pub(crate) fn add_unattributed(self) {
        // SAFETY: within the map's value.
        increment(unsafe { &raw mut (*self.0).unattributed });
    }

    /// One more event, which is about this thread. What cannot be counted for the thread is lost.
    #[inline(always)]
    pub(crate) fn add_of(self, slot: usize, task: Task) {
        self.add_seen();
        if settings::per_thread() && !counted::add(slot, task) {
            self.add_lost();
        }
    }
}

/// Adds 1 to one of this CPU's counters.
#[inline(always)]
fn increment(counter: *mut u64) {
    // SAFETY: in a map's value that is valid while the program runs; see `Counter` about who writes it.
    unsafe {
        if settings::interrupts_itself() {
            publish::add(counter, 1);
        } else {
            *counter += 1;
        }
    }
}
