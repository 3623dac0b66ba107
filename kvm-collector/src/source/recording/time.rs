//! The time of a recording: where its intervals end, and where it ends itself.

/// How much of a source is requested, and in which steps. For the running kernel, `source::Live`'s user keeps to it; for
/// a recording, its reader does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much time from the first event on.
    pub duration_ns: Option<u64>,
    /// The length of the intervals that are reported.
    pub interval_ns: Option<u64>,
}

/// The time of a recording, as far as it was read. It begins with the first event.
#[derive(Debug)]
pub(super) struct RecordedTime {
    limits: Limits,
    began_ns: Option<u64>,
    newest_ns: u64,
    /// When the last interval ended.
    reported_ns: u64,
    /// There was an event or a loss after that.
    is_pending: bool,
    is_over: bool,
    /// Before this time, there is nothing to do.
    next_ns: u64,
}

impl RecordedTime {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            began_ns: None,
            newest_ns: 0,
            reported_ns: 0,
            is_pending: false,
            is_over: false,
            next_ns: 0,
        }
    }

    /// Something happened at a time. False if [`RecordedTime::reach`] has to be called instead.
    #[inline]
    pub(super) fn reach_soon(&mut self, time_ns: u64) -> bool {
        let is_soon = time_ns < self.next_ns;
        if is_soon {
            self.newest_ns = self.newest_ns.max(time_ns);
            self.is_pending = true;
        }
        is_soon
    }

    pub(super) fn began_ns(&self) -> Option<u64> {
        self.began_ns
    }

    /// When the recording ends, as far as is known.
    pub(super) fn end_ns(&self) -> u64 {
        match (self.is_over, self.began_ns, self.limits.duration_ns) {
            (true, Some(began_ns), Some(duration_ns)) => began_ns.saturating_add(duration_ns),
            _ => self.newest_ns,
        }
    }

    /// Has the requested time passed?
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Something happened at a time. Returns the ends of the intervals that are over by then: two at most, however
    /// far time leaps, as all intervals in which nothing happened are reported as one.
    pub(super) fn reach(&mut self, time_ns: u64, is_event: bool) -> [Option<u64>; 2] {
        let ends = self.pass(time_ns, is_event);
        self.next_ns = match self.began_ns {
            Some(began_ns) => {
                let after = |from_ns: u64, ns: Option<u64>| {
                    ns.map_or(u64::MAX, |ns| from_ns.saturating_add(ns))
                };
                let interval_ns = after(self.reported_ns, self.limits.interval_ns);
                after(began_ns, self.limits.duration_ns).min(interval_ns)
            }
            None => 0,
        };
        ends
    }

    fn pass(&mut self, time_ns: u64, is_event: bool) -> [Option<u64>; 2] {
        let Some(began_ns) = self.began_ns else {
            if is_event {
                self.began_ns = Some(time_ns);
                self.newest_ns = time_ns;
                self.reported_ns = time_ns;
            }
            self.is_pending = true;
            return [None, None];
        };
        if let Some(duration_ns) = self.limits.duration_ns
            && time_ns.saturating_sub(began_ns) >= duration_ns
        {
            self.is_over = true;
            return self.ends_before(began_ns.saturating_add(duration_ns));
        }
        let ends = self.ends_before(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        self.is_pending = true;
        ends
    }

    fn ends_before(&mut self, time_ns: u64) -> [Option<u64>; 2] {
        let Some(interval_ns) = self.limits.interval_ns else {
            return [None, None];
        };
        if time_ns.saturating_sub(self.reported_ns) < interval_ns {
            return [None, None];
        }
        let first_ns = self.reported_ns + interval_ns;
        let silent = (time_ns - first_ns) / interval_ns;
        self.reported_ns = first_ns + silent * interval_ns;
        self.is_pending = false;
        [Some(first_ns), (silent > 0).then_some(self.reported_ns)]
    }

    /// Everything has been read. Returns the end of the last interval, which may be shorter than the others.
    pub(super) fn finish(&mut self) -> Option<u64> {
        self.limits.interval_ns?;
        let end_ns = self.end_ns();
        (self.is_pending || end_ns > self.reported_ns).then(|| {
            self.reported_ns = end_ns;
            self.is_pending = false;
            end_ns
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(limits: Limits, times: &[u64]) -> Vec<u64> {
        let mut time = RecordedTime::new(limits);
        let mut ends = Vec::new();
        for time_ns in times {
            if !time.reach_soon(*time_ns) {
                ends.extend(time.reach(*time_ns, true).into_iter().flatten());
            }
            if time.is_over() {
                break;
            }
        }
        ends.extend(time.finish());
        ends
    }

    fn every(interval_ns: u64) -> Limits {
        Limits {
            interval_ns: Some(interval_ns),
            ..Limits::default()
        }
    }

    #[test]
    fn a_gap_is_one_interval_and_the_last_one_may_be_shorter() {
        assert_eq!(ends(every(10), &[100, 105, 112]), [110, 112]);
        assert_eq!(ends(every(10), &[100, 157]), [110, 150, 157]);
        assert_eq!(ends(every(10), &[100, 110]), [110, 110]);
        assert_eq!(
            ends(every(1), &[0, (1 << 63) - 1]),
            [1, (1 << 63) - 1, (1 << 63) - 1]
        );
        assert_eq!(ends(every(10), &[]), [0u64; 0]);
        assert_eq!(ends(Limits::default(), &[1, 2]), [0u64; 0]);
    }

    #[test]
    fn a_duration_ends_when_it_says() {
        let limits = Limits {
            duration_ns: Some(25),
            interval_ns: Some(10),
        };
        assert_eq!(ends(limits, &[100, 101, 130]), [110, 120, 125]);
        assert_eq!(ends(limits, &[100, 101, 124]), [110, 120, 124]);
    }

    proptest! {
        #[test]
        fn intervals_are_in_order_and_few(
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
