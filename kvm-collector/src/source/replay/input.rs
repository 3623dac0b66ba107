//! What a [`Replay`](super::Replay) is asked for.

use crate::{
    probe::{Filter, Pairing},
    tracefs::Format,
};

/// What is made of recorded events.
#[derive(Debug)]
pub struct ReplayOptions {
    /// What is counted, and the formats of the events it takes.
    pub pairing: Pairing,
    /// `kvm_entry`'s format.
    pub entry: Option<Format>,
    /// What is left out.
    pub filter: Filter,
    /// Room for so many rows of (thread, key), at 2.6 KB each.
    pub most_rows: usize,
    /// Room for so many threads at a time, at 0.8 KB each.
    pub most_threads: usize,
}

impl ReplayOptions {
    /// With as much room as a host with thousands of vCPUs takes.
    #[must_use]
    pub fn new(pairing: Pairing, entry: Option<Format>) -> Self {
        Self {
            pairing,
            entry,
            filter: Filter::default(),
            most_rows: 1 << 18,
            most_threads: 1 << 18,
        }
    }
}
