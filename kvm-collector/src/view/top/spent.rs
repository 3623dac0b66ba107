//! What was counted between two readings, as well as can be known of what was not over at either.

/// What was counted of one vCPU's exits of one key, since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitCounters {
    /// How many, also those that are not over.
    pub count: u64,
    /// Time of those that are over.
    pub total_ns: u64,
    /// Of it, in the VMM's user space.
    pub vmm_ns: u64,
    /// Of it, halted.
    pub halted_ns: u64,
    /// Of it, ready but not running.
    pub preempted_ns: u64,
    /// How long the one that is not over has taken so far.
    pub open_ns: u64,
}

impl ExitCounters {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.total_ns += other.total_ns;
        self.vmm_ns += other.vmm_ns;
        self.halted_ns += other.halted_ns;
        self.preempted_ns += other.preempted_ns;
        self.open_ns += other.open_ns;
    }
}

/// Exits of some time, and where the time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitBreakdown {
    /// How many.
    pub exits: u64,
    /// Out of the guest: the sum of all that follows but `idle_ns`.
    pub time_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// In the VMM's user space.
    pub vmm_ns: u64,
    /// Halted.
    pub halted_ns: u64,
    /// Ready but not running.
    pub preempted_ns: u64,
    /// Not over yet: which of the above it is will be known when it is.
    pub open_ns: u64,
    /// In which the guest had nothing to do.
    pub idle_ns: u64,
}

impl ExitBreakdown {
    /// What came between two readings.
    ///
    /// The parts of an exit are known when it is over, which may be long after it began: a halt may last
    /// for many readings. Its time is counted as it passes all the same, and so divided in the end as
    /// what was over then: never more time than has passed.
    #[must_use]
    pub fn between(before: &ExitCounters, now: &ExitCounters, is_halt: bool) -> Self {
        let since = |of: fn(&ExitCounters) -> u64| of(now).saturating_sub(of(before));
        let time_ns = (now.total_ns + now.open_ns).saturating_sub(before.total_ns + before.open_ns);
        let over_ns = since(|it| it.total_ns);
        let part = |ns: u64| {
            if over_ns > time_ns {
                // Some of it was counted before, when it was not over.
                let scaled = u128::from(ns) * u128::from(time_ns) / u128::from(over_ns);
                u64::try_from(scaled).unwrap_or(u64::MAX)
            } else {
                ns
            }
        };
        let vmm_ns = part(since(|it| it.vmm_ns));
        let mut halted_ns = part(since(|it| it.halted_ns));
        let preempted_ns = part(since(|it| it.preempted_ns));
        let mut open_ns = time_ns.saturating_sub(over_ns);
        let kernel_ns = time_ns.saturating_sub(vmm_ns + halted_ns + preempted_ns + open_ns);
        if is_halt {
            halted_ns += open_ns;
            open_ns = 0;
        }
        Self {
            exits: since(|it| it.count),
            time_ns,
            kernel_ns,
            vmm_ns,
            halted_ns,
            preempted_ns,
            open_ns,
            // Where there is no interrupt controller in the kernel, the VMM does the waiting.
            idle_ns: halted_ns + if is_halt { vmm_ns } else { 0 },
        }
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.exits += other.exits;
        self.time_ns += other.time_ns;
        self.kernel_ns += other.kernel_ns;
        self.vmm_ns += other.vmm_ns;
        self.halted_ns += other.halted_ns;
        self.preempted_ns += other.preempted_ns;
        self.open_ns += other.open_ns;
        self.idle_ns += other.idle_ns;
    }

    /// Out of the guest, and not idle.
    #[must_use]
    pub fn busy_ns(&self) -> u64 {
        self.time_ns.saturating_sub(self.idle_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(spent: &ExitBreakdown) -> u64 {
        spent.kernel_ns + spent.vmm_ns + spent.halted_ns + spent.preempted_ns + spent.open_ns
    }

    #[test]
    fn a_long_halt_is_counted_as_it_passes() {
        let begun = ExitCounters {
            count: 1,
            open_ns: 900,
            ..ExitCounters::default()
        };
        let first = ExitBreakdown::between(&ExitCounters::default(), &begun, true);
        assert_eq!(
            (first.halted_ns, first.idle_ns, first.busy_ns()),
            (900, 900, 0)
        );
        let over = ExitCounters {
            count: 1,
            total_ns: 1000,
            halted_ns: 800,
            ..ExitCounters::default()
        };
        let last = ExitBreakdown::between(&begun, &over, true);
        assert_eq!(
            (last.time_ns, last.halted_ns, last.kernel_ns),
            (100, 80, 20)
        );
        assert_eq!(last.exits, 0, "it was counted when it began");
    }

    #[test]
    fn what_is_not_over_and_no_halt_may_be_anything() {
        let now = ExitCounters {
            count: 3,
            total_ns: 500,
            vmm_ns: 200,
            open_ns: 100,
            ..ExitCounters::default()
        };
        let spent = ExitBreakdown::between(&ExitCounters::default(), &now, false);
        assert_eq!(
            (spent.time_ns, spent.kernel_ns, spent.vmm_ns, spent.open_ns),
            (600, 300, 200, 100)
        );
        assert_eq!(spent.idle_ns, 0);
    }

    prop_compose! {
        fn cumulated()(parts in prop::array::uniform5(0u64..1 << 40), count in 0u64..1000) -> ExitCounters {
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
        /// Whatever the readings, the parts are the whole.
        #[test]
        fn the_parts_are_the_whole(before in cumulated(), added in cumulated(), halt in any::<bool>()) {
            let mut now = before;
            now.merge(&added);
            now.open_ns = added.open_ns;
            let spent = ExitBreakdown::between(&before, &now, halt);
            prop_assert_eq!(sum(&spent), spent.time_ns);
            prop_assert!(spent.idle_ns <= spent.time_ns);
        }
    }
}
