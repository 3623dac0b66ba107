//! Where things lie in the guest's physical memory.
//!
//! ```text
//! a segment per vCPU, a multiple of 2 MiB:
//!   PML4, PDPT, PD, code   32 KiB apart
//!   the pages it touches for the first time (`page-fault`)
//!   nothing
//!   a page of a slot of its own, where there is a use for it (`dirty`, `pvclock`)
//!   the last two pages, never backed (`mmio`, `mmio-read`)
//! ```
//!
//! How many page faults the guest causes must not depend on chance. So vCPUs share neither a page nor the tables by
//! which KVM maps it, except the upper levels, which is why they boot one after another: two that fault on a shared
//! table at once may both have to try again. Pages that count are 32 KiB apart because KVM's older MMU maps up to seven
//! neighbours of a faulting page along with it.

use super::{GuestError, Kind, Plan};

/// Size of a page.
pub(super) const PAGE: u64 = PAGE_BYTES as u64;
/// The same as a length in this process.
pub(super) const PAGE_BYTES: usize = 0x1000;

/// What one of the guest's page directories maps.
const REACH: u64 = 1 << 30;
/// What one of KVM's lowest tables maps.
const TABLE: u64 = 2 << 20;
const APART: u64 = 8 * PAGE;
const BLOCK: u64 = 4 * APART;
const HOLE: u64 = 2 * PAGE;
const TAIL: u64 = PAGE + HOLE;
const MAX_VCPUS: u32 = 256;

/// Where everything of a [`Plan`]'s VM lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    backed: u64,
    segment: u64,
}

impl Layout {
    pub(super) fn of(plan: &Plan) -> Result<Self, GuestError> {
        if plan.vcpus > MAX_VCPUS {
            return Err(GuestError::TooManyVcpus {
                asked: plan.vcpus,
                most: MAX_VCPUS,
            });
        }
        let per_round = plan
            .kinds
            .iter()
            .filter(|&&kind| kind == Kind::PageFault)
            .count() as u64;
        let pages = per_round.saturating_mul(u64::from(plan.exits));
        let backed = pages.saturating_mul(PAGE).saturating_add(BLOCK);
        let segment = backed
            .saturating_add(TAIL)
            .div_ceil(TABLE)
            .saturating_mul(TABLE);
        if segment.saturating_mul(plan.vcpus.into()) > REACH {
            let most = (REACH / u64::from(plan.vcpus) / TABLE * TABLE - BLOCK - TAIL) / PAGE;
            return Err(GuestError::TooManyPages { asked: pages, most });
        }
        Ok(Self { backed, segment })
    }

    /// Bytes from the first vCPU's segment to the end of the last one's.
    pub(super) fn size(&self, vcpus: u32) -> u64 {
        u64::from(vcpus) * self.segment
    }

    /// Bytes at the start of each segment that are memory.
    pub(super) fn backed(&self) -> u64 {
        self.backed
    }

    /// The start of a vCPU's segment.
    pub(super) fn segment(&self, vcpu: u32) -> u64 {
        u64::from(vcpu) * self.segment
    }

    pub(super) fn pml4(&self, vcpu: u32) -> u64 {
        self.segment(vcpu)
    }

    pub(super) fn pdpt(&self, vcpu: u32) -> u64 {
        self.pml4(vcpu) + APART
    }

    pub(super) fn pd(&self, vcpu: u32) -> u64 {
        self.pml4(vcpu) + 2 * APART
    }

    pub(super) fn code(&self, vcpu: u32) -> u64 {
        self.pml4(vcpu) + 3 * APART
    }

    /// The first of the pages a vCPU touches for `page-fault`.
    pub(super) fn touched(&self, vcpu: u32) -> u64 {
        self.segment(vcpu) + BLOCK
    }

    /// The unbacked page a vCPU writes to for `mmio`.
    pub(super) fn mmio(&self, vcpu: u32) -> u64 {
        self.segment(vcpu) + self.segment - HOLE
    }

    /// The page that `dirty` writes to, and that the kernel keeps its clock in for `pvclock`.
    ///
    /// Its slot is its own because only it is to be logged: a walk of page tables counts as writing to them.
    pub(super) fn written(&self, vcpu: u32) -> u64 {
        self.mmio(vcpu) - PAGE
    }

    /// The unbacked page it reads from for `mmio-read`.
    pub(super) fn mmio_read(&self, vcpu: u32) -> u64 {
        self.mmio(vcpu) + PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_do_not_meet() {
        let plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: 1000,
            vcpus: 2,
            ..Plan::default()
        };
        let layout = Layout::of(&plan).unwrap();
        assert!(layout.code(0) + PAGE <= layout.touched(0));
        assert_eq!(
            layout.touched(0) + 1000 * PAGE,
            layout.segment(0) + layout.backed()
        );
        assert!(layout.backed() <= layout.written(0));
        assert_eq!(layout.mmio_read(0) + PAGE, layout.segment(1));
        assert_eq!(
            (layout.segment(1) % TABLE, layout.size(2)),
            (0, 2 * layout.segment(1))
        );
    }

    #[test]
    fn as_many_pages_as_are_said_to_fit_do() {
        let mut plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: u32::MAX,
            vcpus: 3,
            ..Plan::default()
        };
        let Err(GuestError::TooManyPages { most, .. }) = Layout::of(&plan) else {
            panic!("they fit")
        };
        plan.exits = u32::try_from(most).unwrap();
        assert!(Layout::of(&plan).is_ok());
        plan.exits += 1;
        assert!(Layout::of(&plan).is_err());
    }
}
