//! Options of a [`Replay`](super::Replay).

use crate::{
    model::capacity::{MAX_ROWS, MAX_THREADS},
    timing::TimingRequest,
    tracefs::Format,
};

/// How exits are timed from a stream of events.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// The exits to time, and the events to time them with.
    pub timing: TimingRequest,
    /// The formats of the stream's events, by slot.
    pub formats: Vec<Format>,
    /// Whether the stream contains only a sample of the events. Consecutive events need not be an
    /// exit and its entry then, so exits are counted as an estimate and have no durations.
    pub is_sampled: bool,
    /// Whether to sum up the exits of each thread and key for
    /// [`Replay::read_exits`](super::Replay::read_exits). Otherwise there are only segments, slow
    /// exits and losses.
    pub collects_totals: bool,
    /// Maximum number of rows of (thread, key), at 2.6 KB each.
    pub max_rows: usize,
    /// Maximum number of threads that run at the same time, at 0.9 KB each.
    pub max_threads: usize,
}

impl ReplayOptions {
    /// Creates options with capacity for a host with thousands of vCPUs.
    #[must_use]
    pub fn new(timing: TimingRequest, formats: &[Format]) -> Self {
        Self {
            timing,
            formats: formats.to_vec(),
            is_sampled: false,
            collects_totals: true,
            max_rows: MAX_ROWS,
            max_threads: MAX_THREADS,
        }
    }
}
