//! Closes the file descriptors of a process that has been forked.

use std::{ffi::c_uint, os::fd::RawFd};

/// Closes all descriptors except `kept`, which must be sorted. Allocates no memory.
///
/// # Safety
/// Nothing may use the other descriptors.
pub(crate) unsafe fn close_others(kept: &[RawFd]) {
    let close = |first: c_uint, last: c_uint| {
        if first <= last {
            // SAFETY: a system call with numbers. The caller guarantees that nothing uses these descriptors.
            unsafe { libc::close_range(first, last, 0) };
        }
    };
    let mut first = 0;
    for fd in kept.iter().map(|fd| fd.cast_unsigned()) {
        if let Some(last) = fd.checked_sub(1) {
            close(first, last);
        }
        first = fd.saturating_add(1);
    }
    close(first, c_uint::MAX);
}
