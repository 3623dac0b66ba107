//! What a [`Replay`](super::Replay) is made for.

use crate::{
    model::capacity::{MOST_ROWS, MOST_THREADS},
    timing::Pairing,
    tracefs::Format,
};

/// How exits are timed from a stream of events.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// How exits are timed.
    pub pairing: Pairing,
    /// The formats of the stream's events, by slot.
    pub formats: Vec<Format>,
    /// The stream holds a sample of the events: two of them that follow one another need not be an exit and its
    /// entry, so exits are counted, as an estimate, and have no times.
    pub is_sampled: bool,
    /// Sum up the exits of each thread and key, for [`Replay::exits`](super::Replay::exits). Without, there are only
    /// segments, slow exits and what is missing.
    pub has_totals: bool,
    /// Capacity in rows of (thread, key), at 2.6 KB each.
    pub max_rows: usize,
    /// Capacity in threads at a time, at 0.9 KB each.
    pub max_threads: usize,
}

impl ReplayOptions {
    /// With capacity for a host with thousands of vCPUs.
    #[must_use]
    pub fn new(pairing: Pairing, formats: &[Format]) -> Self {
        Self {
            pairing,
            formats: formats.to_vec(),
            is_sampled: false,
            has_totals: true,
            max_rows: MOST_ROWS,
            max_threads: MOST_THREADS,
        }
    }
}
