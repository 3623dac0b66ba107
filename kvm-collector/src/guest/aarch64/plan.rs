//! The part of a plan that depends on the architecture.

use std::time::Duration;

use super::kind::Kind;
use crate::guest::layout::PAGE_BYTES;
use crate::guest::{GuestError, Plan};

/// Range of the timer, the same as on x86.
const MIN_TIMER: Duration = Duration::from_micros(1);
const MAX_TIMER: Duration = Duration::from_secs(8);

const LARGE_PAGES: &str = "the guest needs a host kernel with pages of 4 KiB: with larger ones, its number of page faults is not known";

impl Plan {
    /// Returns whether the VMs need an in-kernel interrupt controller.
    pub(super) fn needs_gic(&self) -> bool {
        self.kinds.contains(&Kind::Wfi)
    }

    /// Returns whether a kind needs the page [`crate::guest::layout::Layout::written_page`].
    pub(in crate::guest) fn needs_written_page(&self) -> bool {
        self.kinds.contains(&Kind::Dirty)
    }

    /// Returns the number of ticks of the virtual timer until it expires.
    pub(super) fn timer_ticks(&self, timer_hz: u64) -> u64 {
        let ticks = self.timer.as_nanos() * u128::from(timer_hz) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Returns an error if the combination of options is not possible.
    pub(in crate::guest) fn validate(&self) -> Result<(), GuestError> {
        if rustix::param::page_size() != PAGE_BYTES {
            return Err(GuestError::ImpossiblePlan(LARGE_PAGES));
        }
        if !(MIN_TIMER..=MAX_TIMER).contains(&self.timer) {
            return Err(GuestError::TimerOutOfRange {
                requested: self.timer,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_ticks_have_the_frequency_of_the_timer() {
        let plan = Plan {
            timer: Duration::from_micros(200),
            ..Plan::default()
        };
        assert_eq!(plan.timer_ticks(62_500_000), 12_500);
    }
}
