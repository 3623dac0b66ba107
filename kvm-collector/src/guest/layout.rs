//! Where things lie in the guest's physical memory.
//!
//! ```text
//! 0            a block per vCPU: PML4, PDPT, PD, code, 32 KiB apart
//! after them   the pages each vCPU touches for the first time (`page-fault`)
//! 1 GiB-2 MiB  nothing: two unbacked pages per vCPU (`mmio`, `mmio-read`)
//! ```
//!
//! Nothing is shared between vCPUs, so that who takes a first-touch fault does not depend on who is first. Pages that
//! count are 32 KiB apart because KVM's older MMU maps up to seven neighbours of a faulting page along with it.

use super::{GuestError, Kind, Plan};

/// Size of a page.
pub(super) const PAGE: u64 = 0x1000;
/// Guest memory reaches to here at most: what one page directory maps, less the hole.
pub(super) const HOLE: u64 = (1 << 30) - (2 << 20);

const APART: u64 = 8 * PAGE;
const BLOCK: u64 = 4 * APART;
/// The hole holds two pages for this many.
const MAX_VCPUS: u32 = 256;

/// Where everything of a [`Plan`]'s VM lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    vcpus: u32,
    touched_each: u64,
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
        let touched_each = pages
            .saturating_mul(PAGE)
            .div_ceil(APART)
            .saturating_mul(APART);
        let all = u64::from(plan.vcpus).saturating_mul(touched_each.saturating_add(BLOCK));
        if all > HOLE {
            return Err(GuestError::TooManyPages {
                asked: pages.saturating_mul(plan.vcpus.into()),
                most: HOLE / PAGE,
            });
        }
        Ok(Self {
            vcpus: plan.vcpus,
            touched_each,
        })
    }

    /// Bytes of memory the VM has.
    pub(super) fn size(&self) -> u64 {
        u64::from(self.vcpus) * (BLOCK + self.touched_each)
    }

    pub(super) fn pml4(&self, vcpu: u32) -> u64 {
        u64::from(vcpu) * BLOCK
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
        u64::from(self.vcpus) * BLOCK + u64::from(vcpu) * self.touched_each
    }

    /// The unbacked page a vCPU writes to for `mmio`.
    pub(super) fn mmio(&self, vcpu: u32) -> u64 {
        HOLE + u64::from(vcpu) * 2 * PAGE
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
    fn regions_of_neighbours_do_not_meet() {
        let plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: 9,
            vcpus: 2,
            ..Plan::default()
        };
        let layout = Layout::of(&plan).unwrap();
        assert!(layout.code(0) + PAGE <= layout.pml4(1));
        assert!(layout.code(1) + PAGE <= layout.touched(0));
        assert!(layout.touched(0) + 9 * PAGE <= layout.touched(1));
        assert!(layout.touched(1) + 9 * PAGE <= layout.size());
        assert!(layout.mmio_read(0) < layout.mmio(1));
    }

    #[test]
    fn more_pages_than_fit_are_refused() {
        let plan = Plan {
            kinds: vec![Kind::PageFault],
            exits: u32::MAX,
            ..Plan::default()
        };
        assert!(matches!(
            Layout::of(&plan),
            Err(GuestError::TooManyPages { .. })
        ));
    }
}
