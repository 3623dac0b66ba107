//! Counting: a per-CPU table of all slots, and on request one counter per thread and slot.

use aya_ebpf::helpers::bpf_map_lookup_elem;
use kvm_ebpf_common::{SlotCounts, SlotTable, ThreadSlot};

use crate::{
    maps::{SLOT_COUNTS, THREAD_COUNTS},
    settings,
    task::Task,
};

/// The index of the only value of `SLOT_COUNTS`: in memory that is always there. aya's own way writes it to the
/// stack for each look.
static ONLY: u32 = 0;

/// This CPU's counters of a slot. The program runs with migration off, and a tracepoint program is
/// not entered twice on one CPU, so nobody else writes them.
#[inline(always)]
pub(crate) fn of_slot(slot: usize) -> Option<&'static mut SlotCounts> {
    // SAFETY: a map and its key.
    let table = unsafe {
        bpf_map_lookup_elem(
            (&raw const SLOT_COUNTS).cast_mut().cast(),
            (&raw const ONLY).cast(),
        )
    };
    // SAFETY: the map's value, valid while the program runs; exclusive, see above.
    let table = unsafe { table.cast::<SlotTable>().as_mut() }?;
    Some(&mut table.slots[slot])
}

/// One more event. What cannot be counted per thread is counted as lost.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a slot is below 128")]
pub(crate) fn tally(counts: &mut SlotCounts, slot: usize, task: Task) {
    counts.seen += 1;
    if settings::per_thread() && !per_thread(slot as u32, task) {
        counts.lost += 1;
    }
}

/// One more event of this thread in this slot; false when the map is full.
#[inline(always)]
fn per_thread(slot: u32, task: Task) -> bool {
    let key = ThreadSlot {
        tgid: task.tgid,
        tid: task.tid,
        slot,
    };
    if let Some(counts) = THREAD_COUNTS.get_ptr_mut(key) {
        // SAFETY: a thread runs on one CPU at a time and this key is this thread's.
        unsafe { (*counts).seen += 1 };
        return true;
    }
    let first = SlotCounts {
        seen: 1,
        lost: 0,
        unattributed: 0,
    };
    THREAD_COUNTS.insert(key, first, 0).is_ok()
}
