//! From totals to what came between them.

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// One interval. All intervals together are the total.
    Interval,
    /// The whole measurement.
    Total,
}

/// Readings of totals, of which the first, the last and the current one matter.
#[derive(Debug)]
pub struct Intervals<T> {
    first: T,
    last: T,
}

impl<T: Clone> Intervals<T> {
    /// Begins with a first reading.
    pub fn new(first: T) -> Self {
        Self {
            last: first.clone(),
            first,
        }
    }

    /// An interval has ended: `report` gets the reading before and this one.
    pub fn end_interval<R>(&mut self, now: &T, report: impl FnOnce(&T, &T) -> R) -> R {
        let reported = report(&self.last, now);
        self.last = now.clone();
        reported
    }

    /// The first reading, since when a total counts.
    pub fn first(&self) -> &T {
        &self.first
    }
}
