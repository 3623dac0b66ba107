//! Stores that user space reads without a lock, in memory that both sides have mapped.

use core::{
    ptr::write_volatile,
    sync::atomic::{Ordering, compiler_fence},
};

use crate::settings;

/// Stores a word after everything that was stored before: who reads it with acquire ordering sees that as well.
///
/// On x86, stores become visible in their order, so only the compiler must not change it. Elsewhere this is an exchange,
/// which is fully ordered (Documentation/bpf/standardization/instruction-set.rst, "Atomic operations"; compiled on arm64
/// since Linux 5.18). BPF has a store-release instruction only since 6.15.
///
/// # Safety
/// `to` is valid and aligned, in a map's value; nobody else writes to it.
#[inline(always)]
pub(crate) unsafe fn store_release(to: *mut u64, word: u64) {
    if settings::reorders_writes() {
        // SAFETY: the caller's promise.
        unsafe { atomic::swap(to, word) };
    } else {
        compiler_fence(Ordering::Release);
        // SAFETY: the caller's promise.
        unsafe { write_volatile(to, word) };
    }
}

/// Adds to a counter that another CPU, or an interrupt, may add to as well.
///
/// # Safety
/// `counter` is valid and aligned, in a map's value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, number: u64) {
    // SAFETY: the caller's promise.
    unsafe { atomic::add(counter, number) };
}

/// The instructions. The compiler's own atomics leave these out for BPF, which has no compare-and-swap in its first version.
#[cfg(target_arch = "bpf")]
mod atomic {
    use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

    #[inline(always)]
    pub(super) unsafe fn swap(to: *mut u64, word: u64) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(to, word) };
    }

    #[inline(always)]
    pub(super) unsafe fn add(counter: *mut u64, number: u64) {
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, number) };
    }
}

/// For the linter, which runs on the host.
#[cfg(not(target_arch = "bpf"))]
mod atomic {
    use core::sync::atomic::{AtomicU64, Ordering};

    pub(super) unsafe fn swap(to: *mut u64, word: u64) {
        // SAFETY: the caller's promise.
        unsafe { AtomicU64::from_ptr(to) }.swap(word, Ordering::SeqCst);
    }

    pub(super) unsafe fn add(counter: *mut u64, number: u64) {
        // SAFETY: the caller's promise.
        unsafe { AtomicU64::from_ptr(counter) }.fetch_add(number, Ordering::Relaxed);
    }
}
