//! The part of the memory layout that depends on the architecture.

/// Guest-physical address at which the memory begins, as in other VMMs.
pub(in crate::guest) const RAM_START: u64 = 0x4000_0000;
/// Number of pages that a vCPU touches just by running.
pub(in crate::guest) const MAX_BOOT_PAGES: u64 = 1;
