//! Encodes batches from the rings as perf records. Adds a header to each event and does not decode it.

use crate::model::{Batch, Record};

use super::{
    abi::{MISC_KERNEL, RECORD_HEADER, record},
    record_writer::event_id,
    threads::ThreadTable,
};

/// Size of a sample without its raw record: record header, event id, thread, time, CPU, and the
/// length of the raw record.
const SAMPLE_PREFIX_BYTES: usize = RECORD_HEADER + 4 * 8 + 4;

/// Encodes batches. Adds the names of threads before their first events.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    threads: ThreadTable,
    stats: EncodedStats,
}

/// Number and times of encoded events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct EncodedStats {
    pub(super) events: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Number of events that are lost because they do not fit into a perf record.
    pub(super) oversized: u64,
}

impl EncodedStats {
    fn add(&mut self, time_ns: u64) {
        if self.events == 0 {
            (self.first_ns, self.last_ns) = (time_ns, time_ns);
        }
        self.events += 1;
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
    }

    /// Adds the events of `other`.
    pub(super) fn merge(&mut self, other: Self) {
        if other.events > 0 {
            let is_empty = self.events == 0;
            self.first_ns = if is_empty {
                other.first_ns
            } else {
                self.first_ns.min(other.first_ns)
            };
            self.last_ns = self.last_ns.max(other.last_ns);
        }
        self.events += other.events;
        self.oversized += other.oversized;
    }
}

impl Encoder {
    /// Appends the records of a batch that `is_selected` returns true for. Calls it also for the exits
    /// of threads, which are always appended.
    pub(super) fn encode_batch(
        &mut self,
        batch: &Batch,
        out: &mut Vec<u8>,
        mut is_selected: impl FnMut(&Record<'_>) -> bool,
    ) {
        for (_, record) in batch.records() {
            let header = &record.header;
            if let Some(comm) = record.thread_end_comm() {
                is_selected(&record);
                self.threads
                    .remove_exited(header.tgid, header.tid, comm, header.time_ns, out);
                continue;
            }
            if !is_selected(&record) {
                continue;
            }
            self.threads
                .put_names_once(header.tgid, header.tid, header.time_ns, out);
            if put_sample(&record, out) {
                self.stats.add(header.time_ns);
            } else {
                self.stats.oversized += 1;
            }
        }
    }

    /// Returns the statistics since the last call.
    pub(super) fn take_stats(&mut self) -> EncodedStats {
        std::mem::take(&mut self.stats)
    }

    pub(super) fn threads(&mut self) -> &mut ThreadTable {
        &mut self.threads
    }
}

/// Appends an event as a sample. Returns false if it does not fit into one.
#[inline]
fn put_sample(record: &Record<'_>, out: &mut Vec<u8>) -> bool {
    let header = &record.header;
    let raw = record.raw;
    let padded_raw_bytes = padded_raw_bytes(raw);
    let size = SAMPLE_PREFIX_BYTES + padded_raw_bytes;
    let (Ok(record_size), Ok(raw_size)) = (u16::try_from(size), u32::try_from(padded_raw_bytes))
    else {
        return false;
    };
    let Some(body) = raw.get(8..) else {
        return false;
    };
    let mut start = [0u8; SAMPLE_PREFIX_BYTES + 8];
    let mut position = 0;
    let mut put = |bytes: &[u8]| {
        start[position..position + bytes.len()].copy_from_slice(bytes);
        position += bytes.len();
    };
    put(&record::SAMPLE.to_ne_bytes());
    put(&MISC_KERNEL.to_ne_bytes());
    put(&record_size.to_ne_bytes());
    put(&event_id(usize::from(header.slot)).to_ne_bytes());
    put(&header.tgid.to_ne_bytes());
    put(&header.tid.to_ne_bytes());
    put(&header.time_ns.to_ne_bytes());
    put(&u32::from(header.cpu).to_ne_bytes());
    put(&[0; 4]);
    put(&raw_size.to_ne_bytes());
    // The common fields. A BPF program cannot read the flags and the preemption count, so they are 0.
    put(&header.event_id.to_ne_bytes());
    put(&[0; 2]);
    put(&header.tid.to_ne_bytes());
    out.extend_from_slice(&start);
    out.extend_from_slice(body);
    out.resize(out.len() + padded_raw_bytes - raw.len(), 0);
    true
}

/// Returns the size of a raw record with its padding. The raw record and its 4-byte length together
/// are a multiple of 8.
#[inline]
fn padded_raw_bytes(raw: &[u8]) -> usize {
    (raw.len() + 4).next_multiple_of(8) - 4
}

/// Returns the size of a batch's events as samples.
pub(super) fn encoded_bytes(batch: &Batch) -> u64 {
    batch
        .records()
        .map(|(_, record)| (SAMPLE_PREFIX_BYTES + padded_raw_bytes(record.raw)) as u64)
        .sum()
}
