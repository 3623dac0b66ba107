//! Counters of what could not be counted or timed.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::TimingCounters;

use crate::maps::PAIRING_COUNTERS;

/// This CPU's counters.
#[inline(always)]
pub(crate) fn of_cpu() -> Option<*mut TimingCounters> {
    // SAFETY: a helper without arguments.
    PAIRING_COUNTERS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)
}

/// Adds 1 to a field of this CPU's [`PairingCounters`]. In one instruction: several programs count here, and one may
/// interrupt another.
macro_rules! increment {
    ($field:ident) => {
        if let Some(counters) = $crate::counters::of_cpu() {
            // SAFETY: within the map's value, which is valid while the program runs.
            unsafe { $crate::publish::add(&raw mut (*counters).$field, 1) }
        }
    };
}
pub(crate) use increment;
