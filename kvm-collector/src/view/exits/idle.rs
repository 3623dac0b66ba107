//! Idle time of exits.

/// Returns the idle part of the time of exits, during which the guest had nothing to do: the halted time, and after a halt
/// the time in the VMM as well. Without an in-kernel interrupt controller, the VMM waits for the next interrupt.
pub(in crate::view) fn idle_ns(halted_ns: u64, vmm_ns: u64, is_halt: impl FnOnce() -> bool) -> u64 {
    match vmm_ns {
        0 => halted_ns,
        _ if is_halt() => halted_ns.saturating_add(vmm_ns),
        _ => halted_ns,
    }
}
