//! Tracks which thread entered each vCPU last, to detect vCPUs that move between threads. See
//! [`classify_index_reuse`].

use core::ptr::{read_volatile, write_volatile};

use kvm_ebpf_common::{
    VCPU_RAN_IN_OTHER_THREAD, VCPU_WAS_REPLACED, VcpuIndexReuse, classify_index_reuse,
    last_thread_index,
};

use crate::{
    maps::LAST_THREAD_OF_VCPU,
    rows, settings,
    thread_entry::{self, ThreadEntry},
    timing_counters::increment,
};

/// Handles the `kvm_entry` of a thread.
///
/// If another thread has entered the vCPU in between, the exit that is open in this thread has no
/// duration. The other thread has set `check_vcpu_index` in this entry. So the table is not read
/// unless a vCPU moves.
#[inline(always)]
pub(crate) fn on_entry(entry: &mut ThreadEntry) {
    // SAFETY: in the value of the map. Volatile, because other threads write it.
    if unsafe { read_volatile(&raw const entry.check_vcpu_index) } != 0 {
        set_last_thread(entry.index);
    }
}

/// Stores a thread as the last one that entered its vCPU, and classifies the previous one. Not inlined,
/// because it is rare.
#[inline(never)]
pub(crate) fn set_last_thread(index: u32) {
    let mask = settings::last_thread_mask();
    if mask == 0 {
        return;
    }
    let Some(mut entry) = thread_entry::at(index) else {
        return;
    };
    let ran_in_other_thread = entry.check_vcpu_index == VCPU_RAN_IN_OTHER_THREAD;
    entry.check_vcpu_index = 0;
    let table_index = last_thread_index(entry.tgid(), entry.vcpu, mask);
    let Some(last) = LAST_THREAD_OF_VCPU.get_ptr_mut(table_index) else {
        return;
    };
    // SAFETY: the value of the map. Volatile, because vCPUs of several VMs may share it.
    let previous = unsafe { read_volatile(last) };
    if previous != 0
        && previous != index + 1
        && let Some(mut previous) = thread_entry::at(previous - 1)
    {
        let mut check = VCPU_WAS_REPLACED;
        if previous.has_same_vcpu_index(&entry) {
            check = VCPU_RAN_IN_OTHER_THREAD;
            match classify_index_reuse(&previous.clock, previous.ended != 0) {
                VcpuIndexReuse::OtherVm => {
                    entry.shares_vcpu_index = 1;
                    return;
                }
                VcpuIndexReuse::Moved => discard_open_exit(&mut entry),
            }
        } else if ran_in_other_thread {
            // The thread that ran the vCPU has ended, and user space has freed its entry. Or another vCPU with the same
            // table index was entered since.
            discard_open_exit(&mut entry);
        }
        // SAFETY: in the value of the map. This is the only field of an entry that other threads write.
        unsafe { write_volatile(&raw mut previous.check_vcpu_index, check) };
    }
    // SAFETY: as above.
    unsafe { write_volatile(last, index + 1) };
}

/// Counts the open exit of a thread as moved, without a duration.
#[inline(always)]
fn discard_open_exit(entry: &mut ThreadEntry) {
    let Some(key) = entry.clock.discard_exit() else {
        return;
    };
    let has_row = rows::add_untimed(entry, &key);
    increment!(moved);
    if !has_row {
        increment!(rows_full);
    }
}
