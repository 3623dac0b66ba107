//! The boot pages of a vCPU: three page tables, which real mode does not use, and the program.

use crate::guest::layout::Layout;

impl Layout {
    pub(super) fn pml4(&self, vcpu: u32) -> u64 {
        self.boot_page(vcpu, 0)
    }

    pub(super) fn pdpt(&self, vcpu: u32) -> u64 {
        self.boot_page(vcpu, 1)
    }

    pub(super) fn pd(&self, vcpu: u32) -> u64 {
        self.boot_page(vcpu, 2)
    }

    pub(super) fn code_page(&self, vcpu: u32) -> u64 {
        self.boot_page(vcpu, 3)
    }
}
