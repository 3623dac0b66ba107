//! The time of a recording that is played: when the requested range starts and ends, and when report
//! intervals end.

use super::{period::Period, time_limits::TimeLimits};

/// The time of a recording up to the current item. It starts with the first event of the recording, and
/// ends with its last one, whatever is selected.
#[derive(Debug)]
pub(super) struct RecordingClock {
    limits: TimeLimits,
    /// The period of the recording, as far as it has been read. This is further than the current item.
    recorded: Option<Period>,
    /// The time of the first event, when the clock has started.
    first_ns: Option<u64>,
    /// The start and the end of the requested range. Empty if it is outside of the recording.
    range_ns: (u64, u64),
    phase: Phase,
    newest_ns: u64,
    /// When the current interval started.
    interval_start_ns: u64,
    /// Whether there was an event or a loss since then.
    has_unreported: bool,
    /// The next time at which the requested range starts or ends, or an interval ends.
    next_step_ns: u64,
}

/// Where the clock is, relative to the requested range of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Within,
    After,
}

/// What happens before an item, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ClockStep {
    /// The requested range has started at this time. `None` also if it starts with the first event, and
    /// the item is this event.
    pub(super) range_start_ns: Option<u64>,
    /// The ends of the intervals that have ended. These are at most two, because consecutive
    /// intervals without items are reported as one.
    pub(super) interval_ends_ns: [Option<u64>; 2],
}

impl RecordingClock {
    /// Creates a clock that has not started.
    pub(super) fn new(limits: TimeLimits) -> Self {
        Self {
            limits,
            recorded: None,
            first_ns: None,
            range_ns: (0, 0),
            phase: Phase::Before,
            newest_ns: 0,
            interval_start_ns: 0,
            has_unreported: false,
            next_step_ns: 0,
        }
    }

    /// Adds events that have been read, before items up to their times are played.
    pub(super) fn add_recorded(&mut self, period: Period) {
        Period::add(&mut self.recorded, period);
    }

    /// Advances to `time_ns` if nothing happens before. Otherwise returns false, and
    /// [`RecordingClock::advance`] must be called.
    #[inline]
    pub(super) fn try_advance(&mut self, time_ns: u64) -> bool {
        let has_no_step = time_ns < self.next_step_ns;
        if has_no_step {
            self.newest_ns = self.newest_ns.max(time_ns);
            self.has_unreported = true;
        }
        has_no_step
    }

    /// Returns the start of the requested range: the time of the first event, or a later one.
    pub(super) fn start_ns(&self) -> Option<u64> {
        self.first_ns.map(|_| self.range_ns.0)
    }

    /// Returns the start of the requested range, and its end if it has passed, otherwise the latest time.
    /// `None` if the clock has not started.
    pub(super) fn period_ns(&self) -> Option<(u64, u64)> {
        Some((self.start_ns()?, self.end_ns()))
    }

    fn end_ns(&self) -> u64 {
        match self.phase {
            Phase::After => self.range_ns.1,
            Phase::Before | Phase::Within => self.newest_ns,
        }
    }

    /// Returns whether there was an event, but the requested range has not started.
    #[inline]
    pub(super) fn is_before_range(&self) -> bool {
        self.phase == Phase::Before && self.first_ns.is_some()
    }

    /// Returns whether the requested range has ended.
    pub(super) fn is_finished(&self) -> bool {
        self.phase == Phase::After
    }

    /// Returns whether the requested range starts after the first event of the recording.
    pub(super) fn starts_late(&self) -> bool {
        self.first_ns
            .is_some_and(|first_ns| self.range_ns.0 > first_ns)
    }

    /// Returns the times of the first and of the last event, if the requested range has not started.
    pub(super) fn outside(&self) -> Option<(u64, u64)> {
        let recorded = self.recorded.filter(|_| self.is_before_range())?;
        Some((recorded.first_ns, recorded.last_ns))
    }

    /// Advances to the time of an item. Returns what happens before.
    pub(super) fn advance(&mut self, time_ns: u64, is_event: bool) -> ClockStep {
        let step = self.advance_to(time_ns, is_event);
        self.has_unreported |= self.phase != Phase::After;
        step
    }

    /// Advances to the last event of the recording, which may not be selected. Returns what happens before.
    pub(super) fn advance_to_end(&mut self) -> ClockStep {
        match self.recorded {
            Some(recorded) if self.phase != Phase::After => {
                self.advance_to(recorded.last_ns, false)
            }
            _ => ClockStep::default(),
        }
    }

    fn advance_to(&mut self, time_ns: u64, is_event: bool) -> ClockStep {
        let mut step = ClockStep::default();
        if self.first_ns.is_none() {
            // Losses before the first event have no part in the period.
            let Some(Period { first_ns, .. }) = self.recorded else {
                return step;
            };
            self.start(first_ns);
            let is_first_event = is_event && time_ns == first_ns;
            if self.phase == Phase::Within && !is_first_event {
                step.range_start_ns = Some(first_ns);
            }
        }
        let (start_ns, end_ns) = self.range_ns;
        if self.phase == Phase::Before && start_ns <= time_ns && start_ns < end_ns {
            self.phase = Phase::Within;
            self.newest_ns = start_ns;
            step.range_start_ns = Some(start_ns);
        }
        if self.phase == Phase::Within {
            if time_ns >= end_ns {
                self.phase = Phase::After;
            }
            step.interval_ends_ns = self.interval_ends_before(time_ns.min(end_ns));
        }
        if self.phase != Phase::After {
            self.newest_ns = self.newest_ns.max(time_ns);
        }
        self.update_next_step();
        step
    }

    fn start(&mut self, first_ns: u64) {
        self.first_ns = Some(first_ns);
        self.newest_ns = first_ns;
        self.range_ns = self.limits.range(first_ns);
        self.interval_start_ns = self.range_ns.0;
        if self.range_ns.0 == first_ns && self.range_ns.1 > first_ns {
            self.phase = Phase::Within;
        }
    }

    fn update_next_step(&mut self) {
        let (start_ns, end_ns) = self.range_ns;
        self.next_step_ns = match (self.first_ns, self.phase) {
            (None, _) => 0,
            // A range that is outside of the recording never starts.
            (_, Phase::Before) if start_ns >= end_ns => u64::MAX,
            (_, Phase::Before) => start_ns,
            (_, Phase::Within | Phase::After) => {
                let interval_ns = self.limits.interval_ns.unwrap_or(u64::MAX);
                self.interval_start_ns
                    .saturating_add(interval_ns)
                    .min(end_ns)
            }
        };
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
        self.limits
            .interval_ns
            .filter(|_| self.first_ns.is_some() && !self.is_before_range())?;
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
    use crate::source::recording::time_limits::RecordingTime;

    fn play(limits: TimeLimits, times: &[u64]) -> (RecordingClock, Vec<u64>) {
        let first_ns = times.first().copied();
        let last_ns = times.iter().max().copied();
        let recorded = first_ns.zip(last_ns);
        play_selected(limits, recorded, times)
    }

    /// Plays a recording from its first to its last event, of which those at `times` are selected.
    fn play_selected(
        limits: TimeLimits,
        recorded: Option<(u64, u64)>,
        times: &[u64],
    ) -> (RecordingClock, Vec<u64>) {
        let mut clock = RecordingClock::new(limits);
        if let Some((first_ns, last_ns)) = recorded {
            clock.add_recorded(Period { first_ns, last_ns });
        }
        let mut ends = Vec::new();
        let mut add = |step: ClockStep| {
            assert!(step.range_start_ns.is_none() || ends.is_empty());
            ends.extend(step.interval_ends_ns.into_iter().flatten());
        };
        for time_ns in times {
            if !clock.try_advance(*time_ns) {
                add(clock.advance(*time_ns, true));
            }
            if clock.is_finished() {
                break;
            }
        }
        add(clock.advance_to_end());
        ends.extend(clock.finish());
        (clock, ends)
    }

    fn ends(limits: TimeLimits, times: &[u64]) -> Vec<u64> {
        play(limits, times).1
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
    fn period_is_that_of_the_recording_whatever_is_selected() {
        let period = |limits, times: &[u64]| {
            let (clock, ends) = play_selected(limits, Some((100, 160)), times);
            (clock.start_ns(), clock.end_ns(), ends)
        };
        assert_eq!(period(TimeLimits::default(), &[]), (Some(100), 160, vec![]));
        assert_eq!(
            period(every(10), &[125, 131]),
            (Some(100), 160, vec![110, 120, 130, 140, 160])
        );
        assert_eq!(
            period(every(25), &[]),
            (Some(100), 160, vec![125, 150, 160])
        );
        let limits = TimeLimits {
            from: Some(RecordingTime::SinceStart(20)),
            duration_ns: Some(15),
            interval_ns: Some(10),
            ..TimeLimits::default()
        };
        assert_eq!(period(limits, &[150]), (Some(120), 135, vec![130, 135]));
        assert_eq!(period(limits, &[]), (Some(120), 135, vec![130, 135]));
        let starts_late = |limits| {
            play_selected(limits, Some((100, 160)), &[150])
                .0
                .starts_late()
        };
        assert!(starts_late(limits) && !starts_late(TimeLimits::default()));
        // The clock has not started if there are no events, only losses.
        let (mut clock, ends) = play_selected(every(10), None, &[5, 9]);
        assert_eq!((clock.start_ns(), ends), (None, vec![]));
        assert_eq!(clock.advance_to_end(), ClockStep::default());
    }

    #[test]
    fn requested_duration_ends_the_last_interval() {
        let limits = TimeLimits {
            duration_ns: Some(25),
            interval_ns: Some(10),
            ..TimeLimits::default()
        };
        assert_eq!(ends(limits, &[100, 101, 130]), [110, 120, 125]);
        assert_eq!(ends(limits, &[100, 101, 124]), [110, 120, 124]);
    }

    #[test]
    fn requested_part_includes_its_start_and_excludes_its_end() {
        use RecordingTime::{OfClock, SinceStart};
        let range = |from, until, times: &[u64]| {
            let limits = TimeLimits {
                from,
                until,
                interval_ns: Some(10),
                ..TimeLimits::default()
            };
            let (clock, ends) = play(limits, times);
            (clock.start_ns(), clock.end_ns(), clock.outside(), ends)
        };
        let times = [100, 105, 125, 130, 160];
        let whole = range(None, None, &times);
        assert_eq!(
            whole,
            (Some(100), 160, None, vec![110, 120, 130, 140, 160, 160])
        );
        assert_eq!(
            range(Some(SinceStart(0)), Some(OfClock(161)), &times),
            whole
        );
        // Times before the recording and after it are limited to it.
        assert_eq!(range(Some(OfClock(5)), Some(OfClock(500)), &times), whole);
        assert_eq!(
            range(Some(SinceStart(25)), Some(SinceStart(30)), &times),
            (Some(125), 130, None, vec![130])
        );
        // There may be no event in the range.
        assert_eq!(
            range(Some(OfClock(140)), Some(OfClock(155)), &times),
            (Some(140), 155, None, vec![150, 155])
        );
        for (from, until) in [(161, 200), (20, 100), (130, 130), (130, 120)] {
            let (_, _, outside, ends) = range(Some(OfClock(from)), Some(OfClock(until)), &times);
            assert_eq!(outside, Some((100, 160)), "{from} {until}");
            assert_eq!(ends, [0u64; 0]);
        }
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
