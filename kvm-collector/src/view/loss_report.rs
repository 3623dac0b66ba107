//! The losses of a measurement, as a report of its own.

use serde::Serialize;

use crate::model::Loss;

/// Losses of a whole measurement.
#[derive(Debug, Clone, Serialize)]
pub struct LossReport {
    /// Always `loss`.
    pub view: &'static str,
    /// Start of the measurement, in ns of the clock of the events.
    #[serde(skip)]
    pub start_ns: u64,
    /// End of the measurement, in ns of the clock of the events.
    #[serde(skip)]
    pub end_ns: u64,
    /// Lost events.
    pub loss: Loss,
}

impl LossReport {
    /// Describes a measurement from `start_ns` to `end_ns`.
    #[must_use]
    pub const fn new((start_ns, end_ns): (u64, u64), loss: Loss) -> Self {
        Self {
            view: "loss",
            start_ns,
            end_ns,
            loss,
        }
    }
}
