//! Event counters per slot and CPU.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_map_lookup_elem};
use kvm_ebpf_common::{MAX_SLOTS, SlotCounts, SlotTable};

use crate::{
    atomics, counted_threads,
    maps::{RAW_SLOT_COUNTS, SLOT_COUNTS},
    settings,
    task::Task,
};

/// Index of the only entry of `RAW_SLOT_COUNTS`. aya's lookup would write it to the stack each time.
static RAW_INDEX: u32 = 0;

/// Counters of one slot on the current CPU.
///
/// Additions need no atomic instruction, because no other program changes these counters meanwhile:
/// - only one program counts in a slot, and a program does not migrate to another CPU;
/// - the kernel skips a classic tracepoint program while another one runs on the CPU
///   (`bpf_prog_active` in `trace_call_bpf`, kernel/trace/bpf_trace.c);
/// - since Linux 6.1, it skips a raw tracepoint program while the same one runs on the CPU
///   (`prog->active` in `__bpf_trace_run`).
///
/// Before Linux 6.1, a raw program can interrupt itself. Then additions are atomic.
#[derive(Clone, Copy)]
pub(crate) struct SlotCounter(*mut SlotCounts);

impl SlotCounter {
    /// Returns the counters of a slot in `SLOT_COUNTS`.
    #[inline(always)]
    pub(crate) fn for_slot(slot: usize) -> Option<Self> {
        // SAFETY: a helper without arguments.
        let table = SLOT_COUNTS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)?;
        // SAFETY: in the value of the map, which is valid while the program runs. A slot is below
        // `MAX_SLOTS`.
        Some(Self(unsafe {
            (&raw mut (*table).slots)
                .cast::<SlotCounts>()
                .add(slot % MAX_SLOTS)
        }))
    }

    /// Returns the counters of a slot in `RAW_SLOT_COUNTS`.
    #[inline(always)]
    pub(crate) fn for_raw_slot(slot: usize) -> Option<Self> {
        // SAFETY: a map and a pointer to a key.
        let table = unsafe {
            bpf_map_lookup_elem(
                (&raw const RAW_SLOT_COUNTS).cast_mut().cast(),
                (&raw const RAW_INDEX).cast(),
            )
        };
        // SAFETY: the value of the map, which is valid while the program runs.
        let table = unsafe { table.cast::<SlotTable>().as_mut() }?;
        Some(Self(&raw mut table.slots[slot % MAX_SLOTS]))
    }

    /// Counts an event that passed the filters.
    #[inline(always)]
    pub(crate) fn add_seen(self) {
        // SAFETY: in the value of the map.
        increment(unsafe { &raw mut (*self.0).seen });
    }

    /// Counts an event that passed the filters. The program must not be able to interrupt itself.
    #[inline(always)]
    pub(crate) fn add_seen_not_atomic(self) {
        // SAFETY: in the value of the map. No other program changes it; see `SlotCounter`.
        unsafe { (*self.0).seen += 1 };
    }

    /// Counts an event that could not be stored.
    #[inline(always)]
    pub(crate) fn add_lost(self) {
        // SAFETY: in the value of the map.
        increment(unsafe { &raw mut (*self.0).lost });
    }

    /// Counts an event that was skipped because its vCPU is unknown.
    #[inline(always)]
    pub(crate) fn add_unattributed(self) {
        // SAFETY: in the value of the map.
        increment(unsafe { &raw mut (*self.0).unattributed });
    }

    /// Counts an event that passed the filters, and counts it for its thread if that is requested.
    #[inline(always)]
    pub(crate) fn add_seen_in_thread(self, slot: usize, task: Task) {
        self.add_seen();
        if settings::per_thread() && !counted_threads::add_event(slot, task) {
            self.add_lost();
        }
    }
}

/// Adds 1 to a counter of the current CPU.
#[inline(always)]
fn increment(counter: *mut u64) {
    // SAFETY: in the value of a map, which is valid while the program runs. See `SlotCounter` for
    // concurrent changes.
    unsafe {
        if settings::raw_can_nest() {
            atomics::add(counter, 1);
        } else {
            *counter += 1;
        }
    }
}
