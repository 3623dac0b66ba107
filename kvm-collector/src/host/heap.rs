//! This process' own memory.

/// Gives what is free back to the system. Loading takes some 50 MB for a moment (the kernel's types, the object), which
/// the C library would keep for as long as we watch.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called whenever memory may be allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
