//! This process' own memory.

/// Runs what takes much memory for a moment, as loading does (50 MB: the kernel's types, the object), and gives it back to the
/// system. The C library would keep it for as long as we watch.
pub fn borrow<T>(work: impl FnOnce() -> T) -> T {
    // Large blocks get pages of their own, which go with them. Merely trimmed, the heap would be full of holes, and where huge
    // pages are given to all, the kernel fills holes again.
    set(64 << 10, 128 << 10);
    let done = work();
    // As the C library does by itself once it has seen large blocks: buffers come and go without a system call.
    set(32 << 20, 64 << 20);
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called whenever memory may be allocated.
    unsafe {
        libc::malloc_trim(0);
    }
    done
}

/// From which size on a block gets its own pages, and how much free memory at the heap's end is kept.
fn set(own_pages: libc::c_int, kept: libc::c_int) {
    #[cfg(target_env = "gnu")]
    // SAFETY: settings of the allocator, which any thread may change.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, own_pages);
        libc::mallopt(libc::M_TRIM_THRESHOLD, kept);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (own_pages, kept);
}
