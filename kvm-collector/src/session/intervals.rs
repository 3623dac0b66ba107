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

/// Maximum number of reports that [`HeldReports`] stores. Memory is bounded, so a later error can follow reports.
const MAX_HELD: usize = 256;

/// What a recording has to report before all parts of the selection are known to match, see
/// [`UnmatchedSelectors`](crate::timing::UnmatchedSelectors). It is held until then, so that a selection that does not match can be
/// rejected before anything is reported.
#[derive(Debug)]
pub struct HeldReports<T> {
    /// `None` once reports are not held any more.
    held: Option<Vec<T>>,
}

impl<T> Default for HeldReports<T> {
    /// Starts to hold reports.
    fn default() -> Self {
        Self {
            held: Some(Vec::new()),
        }
    }
}

impl<T> HeldReports<T> {
    /// Adds a report. Returns the reports to write now.
    pub fn add(&mut self, report: T) -> Vec<T> {
        match &mut self.held {
            None => vec![report],
            Some(held) => {
                held.push(report);
                match held.len() > MAX_HELD {
                    true => self.release(),
                    false => Vec::new(),
                }
            }
        }
    }

    /// Returns whether reports are not held any more.
    pub const fn is_released(&self) -> bool {
        self.held.is_none()
    }

    /// Stops holding reports, and returns those to write now.
    pub fn release(&mut self) -> Vec<T> {
        self.held.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_held_until_they_are_released() {
        let mut reports = HeldReports::default();
        assert!(reports.add(1).is_empty());
        assert!(reports.add(2).is_empty());
        assert_eq!(reports.release(), [1, 2]);
        assert_eq!(reports.add(3), [3]);
        assert!(reports.release().is_empty());
    }

    #[test]
    fn a_limited_number_of_reports_is_held() {
        let mut reports = HeldReports::default();
        for number in 0..MAX_HELD {
            assert!(reports.add(number).is_empty());
        }
        assert_eq!(reports.add(MAX_HELD).len(), MAX_HELD + 1);
        assert_eq!(reports.add(0), [0]);
    }
}
