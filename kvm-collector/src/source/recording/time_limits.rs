//! Limits for the time of a measurement.

/// Which range of a recording is read, and the length of the report intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// The start of the range; `None` is the first event of the recording.
    pub from: Option<RecordingTime>,
    /// The end of the range, which is not included; `None` is the end of the recording.
    pub until: Option<RecordingTime>,
    /// The maximum length of the range, in ns; `None` is unlimited.
    pub duration_ns: Option<u64>,
    /// The length of a report interval, in ns; `None` has no intervals.
    pub interval_ns: Option<u64>,
}

/// A time in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingTime {
    /// In ns since the first event of the recording, selected or not.
    SinceStart(u64),
    /// In ns of the clock of the events.
    OfClock(u64),
}

impl RecordingTime {
    /// Converts to ns of the clock of the events, given the time of the first event.
    #[must_use]
    pub fn clock_ns(self, first_ns: u64) -> u64 {
        match self {
            Self::SinceStart(ns) => first_ns.saturating_add(ns),
            Self::OfClock(ns) => ns,
        }
    }
}

impl TimeLimits {
    /// Returns whether only a part of the recording is requested.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.from.is_some() || self.until.is_some() || self.duration_ns.is_some()
    }

    /// Returns the start and the end of the range in ns of the clock of the events, given the time of
    /// the first event. The range is empty if the end is not after the start.
    pub(super) fn range(&self, first_ns: u64) -> (u64, u64) {
        let clock_ns = |time: RecordingTime| time.clock_ns(first_ns);
        let start_ns = self.from.map_or(first_ns, clock_ns).max(first_ns);
        let duration_end_ns = self
            .duration_ns
            .map_or(u64::MAX, |ns| start_ns.saturating_add(ns));
        let until_ns = self.until.map_or(u64::MAX, clock_ns);
        (start_ns, until_ns.min(duration_end_ns))
    }
}
