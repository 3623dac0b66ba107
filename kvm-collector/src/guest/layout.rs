//! Layout of the guest's physical memory.
//!
//! ```text
//! one region per vCPU, a multiple of 2 MiB, from `RAM_START`:
//!   boot pages             32 KiB apart
//!   pages for the kind `page-fault`
//!   unused
//!   written page, in a memory slot of its own (only for `dirty` and `pvclock`)
//!   two pages without memory (`mmio`, `mmio-read`)
//! ```
//!
//! The number of page faults must be deterministic. Two vCPUs that fault on the same KVM page table at
//! the same time may both have to retry. Therefore vCPUs do not share pages or KVM's lowest-level page
//! tables. They do share the upper levels, so they boot one after another. Boot pages are 32 KiB apart
//! because KVM's legacy MMU (tdp_mmu=0) also maps up to seven neighbours of a faulting page.

use super::arch::{MAX_BOOT_PAGES, RAM_START};
use super::{GuestError, Kind, Plan};

/// Size of a page, in bytes.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;
/// [`PAGE`] as `usize`.
pub(super) const PAGE_BYTES: usize = 0x1000;

/// Maximum size of the guest's physical memory. On x86, one page directory of the guest maps as much.
const ADDRESS_SPACE: u64 = 1 << 30;
/// Bytes that one of KVM's lowest-level page tables maps.
const KVM_TABLE_REACH: u64 = 2 << 20;
/// Distance of boot pages.
const SPACING: u64 = 8 * PAGE;
const BOOT_AREA: u64 = MAX_BOOT_PAGES * SPACING;
const MMIO_AREA: u64 = 2 * PAGE;
const END_AREA: u64 = PAGE + MMIO_AREA;
const MAX_VCPUS: u32 = 256;

/// Addresses in the physical memory of a [`Plan`]'s VMs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    backed_bytes: u64,
    region_bytes: u64,
}

impl Layout {
    pub(super) fn new(plan: &Plan) -> Result<Self, GuestError> {
        if plan.vcpus > MAX_VCPUS {
            return Err(GuestError::TooManyVcpus {
                requested: plan.vcpus,
                max: MAX_VCPUS,
            });
        }
        let per_round = plan
            .kinds
            .iter()
            .filter(|&&kind| kind == Kind::PageFault)
            .count() as u64;
        let pages = per_round.saturating_mul(u64::from(plan.exits));
        let backed_bytes = pages.saturating_mul(PAGE).saturating_add(BOOT_AREA);
        let region_bytes = backed_bytes
            .saturating_add(END_AREA)
            .div_ceil(KVM_TABLE_REACH)
            .saturating_mul(KVM_TABLE_REACH);
        if region_bytes.saturating_mul(plan.vcpus.into()) > ADDRESS_SPACE {
            let max = (ADDRESS_SPACE / u64::from(plan.vcpus) / KVM_TABLE_REACH * KVM_TABLE_REACH
                - BOOT_AREA
                - END_AREA)
                / PAGE;
            return Err(GuestError::TooManyPages {
                requested: pages,
                max,
            });
        }
        Ok(Self {
            backed_bytes,
            region_bytes,
        })
    }

    /// Returns the size of all regions, in bytes.
    pub(super) fn total_bytes(&self, vcpus: u32) -> u64 {
        u64::from(vcpus) * self.region_bytes
    }

    /// Returns the number of bytes at the start of each region that are backed by memory.
    pub(super) fn backed_bytes(&self) -> u64 {
        self.backed_bytes
    }

    /// Returns the start of a vCPU's region.
    pub(super) fn region(&self, vcpu: u32) -> u64 {
        RAM_START + u64::from(vcpu) * self.region_bytes
    }

    /// Returns one of the pages that a vCPU touches just by running.
    pub(super) fn boot_page(&self, vcpu: u32, index: u64) -> u64 {
        self.region(vcpu) + index * SPACING
    }

    /// Returns the first of the pages that a vCPU touches for the kind `page-fault`.
    pub(super) fn first_touch_pages(&self, vcpu: u32) -> u64 {
        self.region(vcpu) + BOOT_AREA
    }

    /// Returns the page without memory that a vCPU writes to for the kind `mmio`.
    pub(super) fn mmio_write_page(&self, vcpu: u32) -> u64 {
        self.region(vcpu) + self.region_bytes - MMIO_AREA
    }

    /// Returns the page that `dirty` writes to, and that holds the KVM clock for `pvclock`.
    ///
    /// It has its own memory slot so that no other page is logged as dirty. Page table walks write to
    /// the tables.
    pub(super) fn written_page(&self, vcpu: u32) -> u64 {
        self.mmio_write_page(vcpu) - PAGE
    }

    /// Returns the page without memory that a vCPU reads from for the kind `mmio-read`.
    pub(super) fn mmio_read_page(&self, vcpu: u32) -> u64 {
        self.mmio_write_page(vcpu) + PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_do_not_overlap() {
        let plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: 1000,
            vcpus: 2,
            ..Plan::default()
        };
        let layout = Layout::new(&plan).unwrap();
        assert!(layout.boot_page(0, MAX_BOOT_PAGES - 1) + PAGE <= layout.first_touch_pages(0));
        assert_eq!(
            layout.first_touch_pages(0) + 1000 * PAGE,
            layout.region(0) + layout.backed_bytes()
        );
        assert!(layout.backed_bytes() <= layout.written_page(0));
        assert_eq!(layout.mmio_read_page(0) + PAGE, layout.region(1));
        assert_eq!(
            (layout.region(1) % KVM_TABLE_REACH, layout.total_bytes(2)),
            (0, 2 * (layout.region(1) - RAM_START))
        );
    }

    #[test]
    fn reported_maximum_of_pages_fits() {
        let mut plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: u32::MAX,
            vcpus: 3,
            ..Plan::default()
        };
        let Err(GuestError::TooManyPages { max, .. }) = Layout::new(&plan) else {
            panic!("the pages fit")
        };
        plan.exits = u32::try_from(max).unwrap();
        assert!(Layout::new(&plan).is_ok());
        plan.exits += 1;
        assert!(Layout::new(&plan).is_err());
    }
}
