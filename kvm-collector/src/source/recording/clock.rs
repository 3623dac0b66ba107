//! The time of a recording that is played: when report intervals end, and when the requested time
//! has passed.

use super::time_limits::TimeLimits;

/// The time of a recording up to the current item. It starts with the first event.
#[derive(Debug)]
pub(super) struct RecordingClock {
    limits: TimeLimits,
    start_ns: Option<u64>,
    newest_ns: u64,
    /// When the current interval started.
    interval_start_ns: u64,
    /// Whether there was an event or a loss since then.
    has_unreported: bool,
    /// Whether the requested time has passed.
    is_finished: bool,
    /// The next time at which an interval or the requested time ends.
    next_end_ns: u64,
}

impl RecordingClock {
    /// Creates a clock that has not started.
    pub(super) fn new(limits: TimeLimits) -> Self {
        Self {
            limits,
            start_ns: None,
            newest_ns: 0,
            interval_start_ns: 0,
            has_unreported: false,
            is_finished: false,
            next_end_ns: 0,
        }
    }

    /// Advances to `time_ns` if no interval ends before. Otherwise returns false, and
    /// [`RecordingClock::advance`] must be called.
    #[inline]
    pub(super) fn try_advance(&mut self, time_ns: u64) -> bool {
        let is_within_interval = time_ns < self.next_end_ns;
        if is_within_interval {
            self.newest_ns = self.newest_ns.max(time_ns);
            self.has_unreported = true;
        }
        is_within_interval
    }

    /// Returns the time of the first event.
    pub(super) fn start_ns(&self) -> Option<u64> {
        self.start_ns
    }

    /// Returns the end of the requested time if it has passed, otherwise the latest time.
    pub(super) fn end_ns(&self) -> u64 {
        match (self.is_finished, self.start_ns, self.limits.duration_ns) {
            (true, Some(start_ns), Some(duration_ns)) => start_ns.saturating_add(duration_ns),
            _ => self.newest_ns,
        }
    }

    /// Returns whether the requested time has passed.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Advances to `time_ns`. Returns the ends of the intervals that have ended by then. These are
    /// at most two, because consecutive intervals without items are reported as one.
    pub(super) fn advance(&mut self, time_ns: u64, is_event: bool) -> [Option<u64>; 2] {
        let ends = self.advance_to(time_ns, is_event);
        self.next_end_ns = match self.start_ns {
            Some(start_ns) => {
                let after = |from_ns: u64, ns: Option<u64>| {
                    ns.map_or(u64::MAX, |ns| from_ns.saturating_add(ns))
                };
                let interval_ns = after(self.interval_start_ns, self.limits.interval_ns);
                after(start_ns, self.limits.duration_ns).min(interval_ns)
            }
            None => 0,
        };
        ends
    }

    fn advance_to(&mut self, time_ns: u64, is_event: bool) -> [Option<u64>; 2] {
        let Some(start_ns) = self.start_ns else {
            if is_event {
                self.start_ns = Some(time_ns);
                self.newest_ns = time_ns;
                self.interval_start_ns = time_ns;
            }
            self.has_unreported = true;
            return [None, None];
        };
        if let Some(duration_ns) = self.limits.duration_ns
            && time_ns.saturating_sub(start_ns) >= duration_ns
        {
            self.is_finished = true;
            return self.interval_ends_before(start_ns.saturating_add(duration_ns));
        }
        let ends = self.interval_ends_before(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        self.has_unreported = true;
        ends
    }

    fn interval_ends_before(&mut self, time_ns: u64) -> [Option<u64>; 2] {
        let Some(interval_ns) = self.limits.interval_ns else {
            return [None, None];
        };
        if time_ns.saturating_sub(self.interval_start_ns) < interval_ns {
            return [None, None];
        }
        let first_ns = self.interval_start_ns + interval_ns;
        let empty = (time_ns - first_ns) / interval_ns;
        self.interval_start_ns = first_ns + empty * interval_ns;
        self.has_unreported = false;
        [
            Some(first_ns),
            (empty > 0).then_some(self.interval_start_ns),
        ]
    }

    /// Ends the last interval, which may be shorter than the others. Returns its end.
    pub(super) fn finish(&mut self) -> Option<u64> {
        self.limits.interval_ns?;
        let end_ns = self.end_ns();
        (self.has_unreported || end_ns > self.interval_start_ns).then(|| {
            self.interval_start_ns = end_ns;
            self.has_unreported = false;
            end_ns
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(limits: TimeLimits, times: &[u64]) -> Vec<u64> {
        let mut clock = RecordingClock::new(limits);
        let mut ends = Vec::new();
        for time_ns in times {
            if !clock.try_advance(*time_ns) {
                ends.extend(clock.advance(*time_ns, true).into_iter().flatten());
            }
            if clock.is_finished() {
                break;
            }
        }
        ends.extend(clock.finish());
        ends
    }

    fn every(interval_ns: u64) -> TimeLimits {
        TimeLimits {
            interval_ns: Some(interval_ns),
            ..TimeLimits::default()
        }
    }

    #[test]
    fn gap_is_one_interval_and_the_last_one_may_be_shorter() {
        assert_eq!(ends(every(10), &[100, 105, 112]), [110, 112]);
        assert_eq!(ends(every(10), &[100, 157]), [110, 150, 157]);
        assert_eq!(ends(every(10), &[100, 110]), [110, 110]);
        assert_eq!(
            ends(every(1), &[0, (1 << 63) - 1]),
            [1, (1 << 63) - 1, (1 << 63) - 1]
        );
        assert_eq!(ends(every(10), &[]), [0u64; 0]);
        assert_eq!(ends(TimeLimits::default(), &[1, 2]), [0u64; 0]);
    }

    #[test]
    fn requested_duration_ends_the_last_interval() {
        let limits = TimeLimits {
            duration_ns: Some(25),
            interval_ns: Some(10),
        };
        assert_eq!(ends(limits, &[100, 101, 130]), [110, 120, 125]);
        assert_eq!(ends(limits, &[100, 101, 124]), [110, 120, 124]);
    }

    proptest! {
        #[test]
        fn number_of_intervals_is_bounded_and_they_are_in_order(
            times in prop::collection::vec(0u64..1 << 63, 1..50),
            interval_ns in 1u64..1 << 63,
        ) {
            let ends = ends(every(interval_ns), &times);
            prop_assert!(ends.is_sorted());
            prop_assert!(ends.len() <= 2 * times.len() + 1);
            let newest_ns = times.iter().copied().fold(times[0], u64::max);
            prop_assert_eq!(ends.last(), Some(&newest_ns));
        }
    }
}
