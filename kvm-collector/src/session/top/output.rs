//! The receiver of readings.

use crate::view::TopReading;

/// Receives readings.
pub trait TopOutput {
    /// Receives a periodic reading.
    fn send_reading(&mut self, reading: Box<TopReading>);

    /// Receives the first reading of a new scope: later histograms are differences to its histograms.
    fn send_histograms(&mut self, reading: Box<TopReading>);

    /// Reports that there will be no more readings, because the recording has ended.
    fn send_end(&mut self);
}
