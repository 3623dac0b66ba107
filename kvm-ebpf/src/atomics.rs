//! Atomic operations on map memory that user space or other CPUs access at the same time.

/// Stores a word with release ordering: a reader that loads it with acquire ordering also sees all
/// earlier stores.
///
/// This is an atomic exchange, which is fully ordered ("Atomic operations" in
/// Documentation/bpf/standardization/instruction-set.rst). BPF has a store-release instruction only
/// since Linux 6.15. The exchange needs Linux 5.12, and for arm64 5.18. On x86, other CPUs see stores
/// in program order, so user space replaces it by a store when it loads the programs (`probe/bind.rs`).
///
/// # Safety
/// `to` is valid, aligned, and in the value of a map. No other program writes to it.
#[inline(always)]
pub(crate) unsafe fn store_release(to: *mut u64, word: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe { instructions::swap(to, word) };
}

/// Adds to a counter with one instruction, because another CPU or an interrupt may also add to it.
///
/// # Safety
/// `counter` is valid, aligned, and in the value of a map.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, number: u64) {
    // SAFETY: guaranteed by the caller.
    unsafe { instructions::add(counter, number) };
}

/// The BPF instructions. `core::sync::atomic` has no such methods for BPF, because the first version
/// of BPF has no compare-and-swap.
#[cfg(target_arch = "bpf")]
mod instructions {
    use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

    #[inline(always)]
    pub(super) unsafe fn swap(to: *mut u64, word: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(to, word) };
    }

    #[inline(always)]
    pub(super) unsafe fn add(counter: *mut u64, number: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, number) };
    }
}

/// The same for the host, for which clippy compiles this crate.
#[cfg(not(target_arch = "bpf"))]
mod instructions {
    use core::sync::atomic::{AtomicU64, Ordering};

    pub(super) unsafe fn swap(to: *mut u64, word: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { AtomicU64::from_ptr(to) }.swap(word, Ordering::SeqCst);
    }

    pub(super) unsafe fn add(counter: *mut u64, number: u64) {
        // SAFETY: guaranteed by the caller.
        unsafe { AtomicU64::from_ptr(counter) }.fetch_add(number, Ordering::Relaxed);
    }
}
