//! The epoch of the measurement, the only global variable that changes while programs run.

use core::ptr::read_volatile;

/// Number of the current epoch; 0 while nothing is measured. User space writes it. See
/// [`ExitStats::extremes`](kvm_ebpf_common::ExitStats::extremes).
///
/// While it is 0, programs count and emit nothing. Attaching takes milliseconds per event, and
/// detaching all events takes seconds. The epoch makes all events start and stop at the same time.
///
/// User space accesses it as the section `.bss`, which must contain nothing else.
#[unsafe(no_mangle)]
static mut EPOCH: u64 = 0;

/// Returns the current epoch; 0 while nothing is measured.
#[inline(always)]
pub(crate) fn current() -> u64 {
    // SAFETY: an aligned word, which user space writes as a whole. Volatile, because the compiler sees
    // no code that writes it.
    unsafe { read_volatile(&raw const EPOCH) }
}

/// Returns whether events are measured now.
#[inline(always)]
pub(crate) fn is_measuring() -> bool {
    current() != 0
}
