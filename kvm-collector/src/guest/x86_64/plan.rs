//! The part of a plan that depends on the architecture.

use std::time::Duration;

use super::kind::Kind;
use super::mode::Mode;
use crate::guest::{GuestError, Plan};

/// Time per tick of the APIC timer: KVM's APIC bus has 1 GHz, and the timer divides it by 2 after reset.
const TIMER_TICK_NS: u128 = 2;

impl Plan {
    /// Returns whether the VMs need in-kernel interrupt controllers.
    pub(super) fn needs_irqchip(&self) -> bool {
        self.kinds.iter().any(|kind| kind.needs_irqchip())
    }

    /// Returns whether the guest needs interrupt or exception handlers.
    pub(super) fn needs_handlers(&self) -> bool {
        self.needs_irqchip()
            || self.kinds.contains(&Kind::Exception)
            || self.kinds.contains(&Kind::Ud)
    }

    /// Returns whether each vCPU shuts down after the end of its program.
    pub(super) fn ends_with_triple_fault(&self) -> bool {
        self.exits > 0 && self.kinds.contains(&Kind::TripleFault)
    }

    /// Returns whether a kind needs the page [`crate::guest::layout::Layout::written_page`].
    pub(in crate::guest) fn needs_written_page(&self) -> bool {
        self.kinds.contains(&Kind::Dirty) || self.kinds.contains(&Kind::Pvclock)
    }

    /// Returns the initial count of the APIC timer. It is never 0, which would disable the timer.
    pub(super) fn timer_ticks(&self) -> Result<u32, GuestError> {
        u32::try_from(self.timer.as_nanos() / TIMER_TICK_NS)
            .ok()
            .filter(|_| self.timer >= Duration::from_micros(1))
            .ok_or(GuestError::TimerOutOfRange {
                requested: self.timer,
            })
    }

    /// Returns an error if the combination of options is not possible.
    pub(in crate::guest) fn validate(&self) -> Result<(), GuestError> {
        if self.needs_irqchip() && self.kinds.contains(&Kind::Hlt) {
            return Err(GuestError::ImpossiblePlan(HLT_NEVER_ENDS));
        }
        if self.needs_handlers() && self.mode == Mode::Real && self.vcpus > 1 {
            return Err(GuestError::ImpossiblePlan(REAL_MODE_INTERRUPTS));
        }
        self.timer_ticks()?;
        Ok(())
    }
}

const HLT_NEVER_ENDS: &str = "hlt cannot be combined with kinds that use in-kernel interrupt controllers: no interrupt would wake the vCPU; use the kind timer, which includes a hlt";
const REAL_MODE_INTERRUPTS: &str = "in real mode, kinds with interrupts or exceptions support only one vCPU: use --mode long or --vcpus 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_ticks_are_2_ns() {
        let ticks = |timer| {
            let plan = Plan {
                timer,
                ..Plan::default()
            };
            plan.timer_ticks().ok()
        };
        assert_eq!(ticks(Plan::default().timer), Some(100_000));
        assert_eq!(ticks(Duration::from_secs(8)), Some(4_000_000_000));
        assert_eq!(ticks(Duration::from_secs(9)), None);
        assert_eq!(ticks(Duration::from_nanos(999)), None);
        assert_eq!(ticks(Duration::MAX), None);
    }
}
