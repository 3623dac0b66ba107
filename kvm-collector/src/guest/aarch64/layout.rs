//! Addresses of the guest that exist only on arm64.

use crate::guest::layout::Layout;

/// Offset in [`Layout::mmio_write_page`] to which a vCPU writes when it has started.
pub(super) const BOOT_OFFSET: u64 = 0x10;
/// Offset to which a vCPU writes at the end of its program.
pub(super) const END_OFFSET: u64 = 0x20;
/// A write to this offset makes user space read the dirty log of the vCPU's written page.
pub(super) const DIRTY_OFFSET: u64 = 0x30;

impl Layout {
    pub(super) fn code_page(&self, vcpu: u32) -> u64 {
        self.boot_page(vcpu, 0)
    }
}
