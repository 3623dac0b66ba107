//! What can say where VM exits go.

use crate::{
    model::{ExitReading, ThreadExits},
    probe::ProbeError,
};

use super::Live;

/// A source of timed VM exits: the running kernel, or a recording.
pub trait ExitSource {
    /// Why it could not be read.
    type Error;

    /// Hands over all timed exits since the beginning: of each thread and key, and of what has ended.
    ///
    /// # Errors
    /// When they cannot be read.
    fn exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>))
    -> Result<ExitReading, Self::Error>;
}

impl ExitSource for Live {
    type Error = ProbeError;

    fn exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, ProbeError> {
        Live::exits(self, each)
    }
}
