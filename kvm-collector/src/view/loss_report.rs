//! The losses of a measurement, as a report of its own.

use serde::Serialize;

use crate::model::Loss;

/// Losses of a whole measurement.
#[derive(Debug, Clone, Serialize)]
pub struct LossReport {
    /// Always `loss`.
    pub view: &'static str,
    /// Start and end of the measurement, in ns of the clock of the events; `None` for a recording without
    /// events.
    #[serde(skip)]
    pub times_ns: Option<(u64, u64)>,
    /// Lost events.
    pub loss: Loss,
}

impl LossReport {
    /// Describes the losses of a measurement from a start to an end.
    #[must_use]
    pub const fn new(times_ns: Option<(u64, u64)>, loss: Loss) -> Self {
        Self {
            view: "loss",
            times_ns,
            loss,
        }
    }
}
