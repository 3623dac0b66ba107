//! Exit counts between two readings, and where their time went.

use crate::view::exits::idle_ns;

/// Cumulative counters of one vCPU's exits with one key, since the start of the measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitCounters {
    /// Number of exits, including one in progress.
    pub count: u64,
    /// Total duration of the completed exits.
    pub total_ns: u64,
    /// Part of `total_ns` that was spent in the VMM's user space.
    pub vmm_ns: u64,
    /// Part of `total_ns` during which the vCPU was halted.
    pub halted_ns: u64,
    /// Part of `total_ns` during which the thread was runnable, but not running.
    pub preempted_ns: u64,
    /// Duration so far of the exit in progress.
    pub open_ns: u64,
}

impl ExitCounters {
    /// Adds the counters of other exits.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(other.vmm_ns);
        self.halted_ns = self.halted_ns.saturating_add(other.halted_ns);
        self.preempted_ns = self.preempted_ns.saturating_add(other.preempted_ns);
        self.open_ns = self.open_ns.saturating_add(other.open_ns);
    }

    /// Subtracts as much of `rest` as these counters have, and leaves what remains in `rest`. The exit in progress stays: its time
    /// counts when it ends.
    pub(super) fn subtract(&mut self, rest: &mut Self) {
        subtract(&mut self.count, &mut rest.count);
        subtract(&mut self.total_ns, &mut rest.total_ns);
        subtract(&mut self.vmm_ns, &mut rest.vmm_ns);
        subtract(&mut self.halted_ns, &mut rest.halted_ns);
        subtract(&mut self.preempted_ns, &mut rest.preempted_ns);
    }
}

/// Subtracts as much of `rest` from a number as it has, and leaves what remains in `rest`.
pub(super) fn subtract(number: &mut u64, rest: &mut u64) {
    let common = (*number).min(*rest);
    *number -= common;
    *rest -= common;
}

/// Exits in a time interval, and where their time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitBreakdown {
    /// Number of exits that started.
    pub exits: u64,
    /// Time outside the guest: the sum of the following fields.
    pub time_ns: u64,
    /// Time in the kernel.
    pub kernel_ns: u64,
    /// Time in the VMM's user space, except during halts.
    pub vmm_ns: u64,
    /// Time during which the guest had nothing to do: halted time, and the VMM's part of halts.
    pub idle_ns: u64,
    /// Time during which the thread was runnable, but not running.
    pub preempted_ns: u64,
    /// Time of exits in progress. It moves to the other fields when the exit ends.
    pub open_ns: u64,
}

impl ExitBreakdown {
    /// Returns what happened between two readings. `is_halt` means that the key is a halt.
    ///
    /// Where the time of an exit went is known only when it ends, and a halt may last for many
    /// readings. Each reading counts the time that has passed, so part of a completed exit may have
    /// been counted before. The parts are then scaled down to the time since the last reading.
    #[must_use]
    pub fn between(before: &ExitCounters, now: &ExitCounters, is_halt: bool) -> Self {
        let since = |of: fn(&ExitCounters) -> u64| of(now).saturating_sub(of(before));
        let time_ns = now
            .total_ns
            .saturating_add(now.open_ns)
            .saturating_sub(before.total_ns.saturating_add(before.open_ns));
        let completed_ns = since(|it| it.total_ns);
        let part = |ns: u64| {
            if completed_ns > time_ns {
                // Earlier readings counted some of this time while the exit was in progress.
                let scaled = u128::from(ns) * u128::from(time_ns) / u128::from(completed_ns);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            } else {
                ns
            }
        };
        let mut vmm_ns = part(since(|it| it.vmm_ns));
        let halted_ns = part(since(|it| it.halted_ns));
        let preempted_ns = part(since(|it| it.preempted_ns));
        let mut open_ns = time_ns.saturating_sub(completed_ns);
        let kernel_ns = [vmm_ns, halted_ns, preempted_ns, open_ns]
            .into_iter()
            .fold(time_ns, u64::saturating_sub);
        // The time of a halt in progress is idle as well.
        let idle_ns = idle_ns(halted_ns, vmm_ns.saturating_add(open_ns), || is_halt);
        if is_halt {
            (vmm_ns, open_ns) = (0, 0);
        }
        Self {
            exits: since(|it| it.count),
            time_ns,
            kernel_ns,
            vmm_ns,
            idle_ns,
            preempted_ns,
            open_ns,
        }
    }

    /// Adds the exits of another breakdown.
    pub fn merge(&mut self, other: &Self) {
        self.exits = self.exits.saturating_add(other.exits);
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
        self.kernel_ns = self.kernel_ns.saturating_add(other.kernel_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(other.vmm_ns);
        self.idle_ns = self.idle_ns.saturating_add(other.idle_ns);
        self.preempted_ns = self.preempted_ns.saturating_add(other.preempted_ns);
        self.open_ns = self.open_ns.saturating_add(other.open_ns);
    }

    /// Returns the cost: the time outside the guest without idle time.
    #[must_use]
    pub fn cost_ns(&self) -> u64 {
        self.time_ns.saturating_sub(self.idle_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(breakdown: &ExitBreakdown) -> u64 {
        breakdown.kernel_ns
            + breakdown.vmm_ns
            + breakdown.idle_ns
            + breakdown.preempted_ns
            + breakdown.open_ns
    }

    #[test]
    fn a_long_halt_is_counted_while_in_progress() {
        let in_progress = ExitCounters {
            count: 1,
            open_ns: 900,
            ..ExitCounters::default()
        };
        let first = ExitBreakdown::between(&ExitCounters::default(), &in_progress, true);
        assert_eq!((first.idle_ns, first.cost_ns()), (900, 0));
        let completed = ExitCounters {
            count: 1,
            total_ns: 1000,
            halted_ns: 800,
            ..ExitCounters::default()
        };
        let last = ExitBreakdown::between(&in_progress, &completed, true);
        assert_eq!((last.time_ns, last.idle_ns, last.kernel_ns), (100, 80, 20));
        assert_eq!(last.exits, 0, "it was counted when it started");
    }

    #[test]
    fn time_of_an_exit_in_progress_is_open_unless_it_is_a_halt() {
        let now = ExitCounters {
            count: 3,
            total_ns: 500,
            vmm_ns: 200,
            open_ns: 100,
            ..ExitCounters::default()
        };
        let breakdown = ExitBreakdown::between(&ExitCounters::default(), &now, false);
        assert_eq!(
            (
                breakdown.time_ns,
                breakdown.kernel_ns,
                breakdown.vmm_ns,
                breakdown.open_ns
            ),
            (600, 300, 200, 100)
        );
        assert_eq!(breakdown.idle_ns, 0);
    }

    #[test]
    fn the_vmms_part_of_a_halt_is_idle() {
        let now = ExitCounters {
            count: 1,
            total_ns: 1000,
            vmm_ns: 700,
            halted_ns: 200,
            ..ExitCounters::default()
        };
        let halt = ExitBreakdown::between(&ExitCounters::default(), &now, true);
        assert_eq!(
            (halt.vmm_ns, halt.idle_ns, halt.kernel_ns, halt.cost_ns()),
            (0, 900, 100, 100)
        );
        let other = ExitBreakdown::between(&ExitCounters::default(), &now, false);
        assert_eq!(
            (other.vmm_ns, other.idle_ns, other.cost_ns()),
            (700, 200, 800)
        );
    }

    prop_compose! {
        fn counters()(parts in prop::array::uniform5(0u64..1 << 40), count in 0u64..1000) -> ExitCounters {
            ExitCounters {
                count,
                total_ns: parts[0] + parts[1] + parts[2] + parts[3],
                vmm_ns: parts[1],
                halted_ns: parts[2],
                preempted_ns: parts[3],
                open_ns: parts[4],
            }
        }
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_time(before in counters(), added in counters(), halt in any::<bool>()) {
            let mut now = before;
            now.merge(&added);
            now.open_ns = added.open_ns;
            let breakdown = ExitBreakdown::between(&before, &now, halt);
            prop_assert_eq!(sum(&breakdown), breakdown.time_ns);
            prop_assert!(breakdown.idle_ns <= breakdown.time_ns);
        }
    }
}
