//! Counters of exits and notifications that could not be recorded completely.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::TimingCounters;

use crate::maps::TIMING_COUNTERS;

/// Returns the counters of the current CPU.
#[inline(always)]
pub(crate) fn of_current_cpu() -> Option<*mut TimingCounters> {
    // SAFETY: a helper without arguments.
    TIMING_COUNTERS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)
}

/// Adds 1 to a field of the current CPU's [`TimingCounters`]. Atomic, because several programs use
/// these counters, and one may interrupt another.
macro_rules! increment {
    ($field:ident) => {
        if let Some(counters) = $crate::timing_counters::of_current_cpu() {
            // SAFETY: in the value of the map, which is valid while the program runs.
            unsafe { $crate::atomics::add(&raw mut (*counters).$field, 1) }
        }
    };
}
pub(crate) use increment;
