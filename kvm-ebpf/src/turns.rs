//! Which thread entered a vCPU last; see `kvm_ebpf_common::turn`.

use core::ptr::{read_volatile, write_volatile};

use kvm_ebpf_common::{Turn, VcpuThread, turn, turn_slot};

use crate::{
    maps::VCPU_TURNS,
    pair, rows, settings,
    threads::{self, Place},
};

/// Notes that a thread enters its vCPU.
///
/// If another thread entered the vCPU last, the exit that is open in this one has no time. That other thread has set
/// `check_turn` here, so the table is not read as long as no vCPU moves.
#[inline(always)]
pub(crate) fn enter(place: &mut Place) {
    // SAFETY: a number of the thread's own state, which others write. Volatile for that reason.
    if unsafe { read_volatile(&raw const place.thread.check_turn) } != 0 {
        record(place.index, place.thread);
    }
}

/// Records a thread as the last one that entered its vCPU. Not inlined, since it is rare.
#[inline(never)]
pub(crate) fn record(index: u32, thread: *mut VcpuThread) {
    let mask = settings::turn_mask();
    if mask == 0 {
        return;
    }
    let mut place = Place {
        index,
        // SAFETY: the caller's, which waits.
        thread: unsafe { &mut *thread },
    };
    place.thread.check_turn = 0;
    let slot = turn_slot(place.thread.tgid(), place.thread.vcpu, mask);
    let Some(last) = VCPU_TURNS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: the map's value, valid while the program runs. Volatile: threads of several VMs may share it.
    let previous = unsafe { read_volatile(last) };
    if previous != 0
        && previous != index + 1
        && let Some(previous) = threads::at(previous - 1)
    {
        let previous = previous.thread;
        // An entry that is free, or belongs to another vCPU with the same slot, says nothing.
        if previous.has_vcpu_of(place.thread) {
            match turn(&previous.clock, previous.ended != 0) {
                Turn::Separate => {
                    place.thread.separate = 1;
                    return;
                }
                Turn::Moved => interrupt(&mut place),
            }
        }
        // SAFETY: the only number of a thread's state that another one writes.
        unsafe { write_volatile(&raw mut previous.check_turn, 1) };
    }
    // SAFETY: as above.
    unsafe { write_volatile(last, index + 1) };
}

/// Counts the exit that is open in a thread, without a time.
#[inline(always)]
fn interrupt(place: &mut Place) {
    let Some(key) = place.thread.clock.interrupt() else {
        return;
    };
    let is_counted = rows::add_untimed(place, &key);
    if let Some(counters) = pair::counters() {
        counters.moved += 1;
        if !is_counted {
            counters.rows_full += 1;
        }
    }
}
