//! The clock of all times that programs record.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// Returns the current time, `CLOCK_MONOTONIC`.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}
