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

/// Maximum number of readings that [`HeldReadings`] stores. A recording has more intervals before the first selected event only if
/// events were lost in them.
const MAX_HELD: usize = 256;

/// The readings at the ends of the intervals before the first selected event of a recording. They are held until that event, so
/// that a selection without events can be rejected before anything is reported.
#[derive(Debug)]
pub struct HeldReadings<T> {
    /// `None` once readings are not held any more.
    held: Option<Vec<T>>,
}

impl<T> Default for HeldReadings<T> {
    /// Starts to hold readings.
    fn default() -> Self {
        Self {
            held: Some(Vec::new()),
        }
    }
}

impl<T> HeldReadings<T> {
    /// Adds a reading. Returns the readings to report now.
    pub fn add(&mut self, reading: T) -> Vec<T> {
        match &mut self.held {
            None => vec![reading],
            Some(held) => {
                held.push(reading);
                match held.len() > MAX_HELD {
                    true => self.release(),
                    false => Vec::new(),
                }
            }
        }
    }

    /// Returns whether readings are not held any more.
    pub const fn is_released(&self) -> bool {
        self.held.is_none()
    }

    /// Stops holding readings, and returns those to report now.
    pub fn release(&mut self) -> Vec<T> {
        self.held.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_held_until_they_are_released() {
        let mut readings = HeldReadings::default();
        assert!(readings.add(1).is_empty());
        assert!(readings.add(2).is_empty());
        assert_eq!(readings.release(), [1, 2]);
        assert_eq!(readings.add(3), [3]);
        assert!(readings.release().is_empty());
    }

    #[test]
    fn a_limited_number_of_readings_is_held() {
        let mut readings = HeldReadings::default();
        for number in 0..MAX_HELD {
            assert!(readings.add(number).is_empty());
        }
        assert_eq!(readings.add(MAX_HELD).len(), MAX_HELD + 1);
        assert_eq!(readings.add(0), [0]);
    }
}
