//! What goes into a [`Replay`](super::Replay).

use crate::{
    probe::{Filter, Pairing, Record},
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

/// One event of a recording.
#[derive(Debug, Clone, Copy)]
pub struct RecordedEvent<'a> {
    /// When.
    pub time_ns: u64,
    /// On which CPU.
    pub cpu: u32,
    /// In which process.
    pub tgid: u32,
    /// In which thread; of `sched_switch`, the one that is left.
    pub tid: u32,
    /// The raw record, with all fields at their offsets.
    pub raw: &'a [u8],
}

impl<'a> From<&Record<'a>> for RecordedEvent<'a> {
    fn from(record: &Record<'a>) -> Self {
        let header = &record.header;
        Self {
            time_ns: header.time_ns,
            cpu: header.cpu.into(),
            tgid: header.tgid,
            tid: header.tid,
            raw: record.raw,
        }
    }
}
