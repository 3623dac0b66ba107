//! Which thread entered a vCPU last; see `kvm_ebpf_common::classify_index_reuse`.

use core::ptr::{read_volatile, write_volatile};

use kvm_ebpf_common::{VcpuIndexReuse, classify_index_reuse, last_thread_index};

use crate::{
    counters::increment,
    maps::VCPU_TURNS,
    rows, settings,
    thread_entry::{self, Entry},
};

/// Notes that a thread enters its vCPU.
///
/// If another thread entered the vCPU last, the exit that is open in this one has no time. That other thread has set
/// `check_vcpu_index` here, so the table is not read as long as no vCPU moves.
#[inline(always)]
pub(crate) fn enter(entry: &mut Entry) {
    // SAFETY: a number of the thread's own state, which others write. Volatile for that reason.
    if unsafe { read_volatile(&raw const entry.check_vcpu_index) } != 0 {
        record(entry.index);
    }
}

/// Records a thread as the last one that entered its vCPU. Not inlined, since it is rare.
#[inline(never)]
pub(crate) fn record(index: u32) {
    let mask = settings::last_thread_mask();
    if mask == 0 {
        return;
    }
    let Some(mut entry) = thread_entry::at(index) else {
        return;
    };
    entry.check_vcpu_index = 0;
    let slot = last_thread_index(entry.tgid(), entry.vcpu, mask);
    let Some(last) = VCPU_TURNS.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: the map's value, valid while the program runs. Volatile: threads of several VMs may share it.
    let previous = unsafe { read_volatile(last) };
    if previous != 0
        && previous != index + 1
        && let Some(mut previous) = thread_entry::at(previous - 1)
    {
        // An entry that is free, or belongs to another vCPU with the same slot, says nothing.
        if previous.has_same_vcpu_index(&entry) {
            match classify_index_reuse(&previous.clock, previous.ended != 0) {
                VcpuIndexReuse::OtherVm => {
                    entry.shares_vcpu_index = 1;
                    return;
                }
                VcpuIndexReuse::Moved => interrupt(&mut entry),
            }
        }
        // SAFETY: the only number of a thread's state that another one writes.
        unsafe { write_volatile(&raw mut previous.check_vcpu_index, 1) };
    }
    // SAFETY: as above.
    unsafe { write_volatile(last, index + 1) };
}

/// Counts the exit that is open in a thread, without a time.
#[inline(always)]
fn interrupt(entry: &mut Entry) {
    let Some(key) = entry.clock.reset_after_gap() else {
        return;
    };
    let is_counted = rows::add_untimed(entry, &key);
    increment!(moved);
    if !is_counted {
        increment!(rows_full);
    }
}
