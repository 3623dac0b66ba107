//! Readings of exits for the screen of `top`: of the running kernel, or of a recording that is played.

mod control;
mod names;
mod player;
mod reader;

use crate::view::TopReading;
pub use control::{Control, ControlQueue};
pub use player::{TopPlayer, read_recording_once};
pub use reader::{TopReader, read_once};

/// Receives readings.
pub trait TopOutput {
    /// Receives a periodic reading.
    fn send_reading(&mut self, reading: Box<TopReading>);

    /// Receives the first reading of a new scope: later histograms are differences to its histograms.
    fn send_histograms(&mut self, reading: Box<TopReading>);

    /// Reports that there will be no more readings, because the recording has ended.
    fn send_end(&mut self);
}
