//! Splits a measurement into intervals.

/// What a report covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportPeriod {
    /// One interval. The intervals add up to the total.
    Interval,
    /// The whole measurement.
    Total,
}

impl ReportPeriod {
    /// Returns the name for JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Total => "total",
        }
    }
}

/// Stores the first and the previous reading of cumulative counters.
#[derive(Debug)]
pub struct IntervalTracker<T> {
    first: T,
    previous: T,
}

impl<T: Clone> IntervalTracker<T> {
    /// Starts the first interval with a reading.
    pub fn new(first: T) -> Self {
        Self {
            previous: first.clone(),
            first,
        }
    }

    /// Ends an interval. `report` gets the reading at its start and the one at its end.
    pub fn end_interval<R>(&mut self, now: &T, report: impl FnOnce(&T, &T) -> R) -> R {
        let reported = report(&self.previous, now);
        self.previous = now.clone();
        reported
    }

    /// Returns the reading at the start of the measurement.
    pub fn first(&self) -> &T {
        &self.first
    }
}
