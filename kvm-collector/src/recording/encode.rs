//! From the ring's records to perf's: a header before each, nothing decoded, nothing allocated.

use crate::model::{Batch, Record};

use super::{
    abi::{MISC_KERNEL, RECORD_HEADER, record},
    head::{put_header, sample_id},
    threads::Threads,
};

/// Bytes of a sample before its raw record: header, identifier, tid, time, cpu, and the raw record's length.
const BEFORE_RAW: usize = RECORD_HEADER + 4 * 8 + 4;

/// Bytes of what ends a record that is no sample: thread, time, CPU, identifier.
pub(super) const SAMPLE_ID_BYTES: usize = 32;

/// Turns what the ring gives into the records of a file.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    threads: Threads,
    stats: Encoded,
}

/// What has been encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) events: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// Events too long for a record, which are lost.
    pub(super) too_long: u64,
}

impl Encoded {
    fn add(&mut self, time_ns: u64) {
        if self.events == 0 {
            (self.first_ns, self.last_ns) = (time_ns, time_ns);
        }
        self.events += 1;
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
    }

    /// Both together.
    pub(super) fn join(&mut self, other: Self) {
        if other.events > 0 {
            let first = self.events == 0;
            self.first_ns = if first {
                other.first_ns
            } else {
                self.first_ns.min(other.first_ns)
            };
            self.last_ns = self.last_ns.max(other.last_ns);
        }
        self.events += other.events;
        self.too_long += other.too_long;
    }
}

impl Encoder {
    /// Appends a batch's records, as far as `each`, which sees them first, selects them. Ends of threads it sees as well,
    /// but they are never left out.
    pub(super) fn batch(
        &mut self,
        batch: &Batch,
        out: &mut Vec<u8>,
        mut each: impl FnMut(&Record<'_>) -> bool,
    ) {
        for (_, record) in batch.records() {
            let header = &record.header;
            if let Some(comm) = record.ended_comm() {
                each(&record);
                self.threads
                    .ended(header.tgid, header.tid, comm, header.time_ns, out);
                continue;
            }
            if !each(&record) {
                continue;
            }
            self.threads
                .seen(header.tgid, header.tid, header.time_ns, out);
            if sample(&record, out) {
                self.stats.add(header.time_ns);
            } else {
                self.stats.too_long += 1;
            }
        }
    }

    /// Appends that events were lost: of one event, or of any if `event` is none.
    pub(super) fn lost(event: Option<usize>, lost: u64, time_ns: u64, out: &mut Vec<u8>) {
        put_header(out, record::LOST, 0, RECORD_HEADER + 16 + SAMPLE_ID_BYTES);
        let id = event.map_or(0, sample_id);
        out.extend_from_slice(&id.to_ne_bytes());
        out.extend_from_slice(&lost.to_ne_bytes());
        put_sample_id(out, (0, 0), time_ns, 0, id.max(1));
    }

    /// Appends that events of a CPU were lost between two times: none is counted, and the id is the second time.
    pub(super) fn lost_between(cpu: u32, from_ns: u64, to_ns: u64, out: &mut Vec<u8>) {
        put_header(out, record::LOST, 0, RECORD_HEADER + 16 + SAMPLE_ID_BYTES);
        out.extend_from_slice(&to_ns.to_ne_bytes());
        out.extend_from_slice(&0u64.to_ne_bytes());
        put_sample_id(out, (0, 0), from_ns, cpu, 1);
    }

    /// What has been encoded since this was asked for the last time.
    pub(super) fn take_stats(&mut self) -> Encoded {
        std::mem::take(&mut self.stats)
    }

    pub(super) fn threads(&mut self) -> &mut Threads {
        &mut self.threads
    }
}

/// Appends a sample; false if it is too long for one.
#[inline]
fn sample(record: &Record<'_>, out: &mut Vec<u8>) -> bool {
    let header = &record.header;
    let raw = record.raw;
    // With its length, which takes 4 bytes, it ends at a multiple of 8.
    let raw_bytes = (raw.len() + 4).next_multiple_of(8) - 4;
    let size = BEFORE_RAW + raw_bytes;
    let (Ok(size16), Ok(raw_bytes32)) = (u16::try_from(size), u32::try_from(raw_bytes)) else {
        return false;
    };
    let Some(body) = raw.get(8..) else {
        return false;
    };
    let mut start = [0u8; BEFORE_RAW + 8];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        start[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&record::SAMPLE.to_ne_bytes());
    put(&MISC_KERNEL.to_ne_bytes());
    put(&size16.to_ne_bytes());
    put(&sample_id(usize::from(header.slot)).to_ne_bytes());
    put(&header.tgid.to_ne_bytes());
    put(&header.tid.to_ne_bytes());
    put(&header.time_ns.to_ne_bytes());
    put(&u32::from(header.cpu).to_ne_bytes());
    put(&[0; 4]);
    put(&raw_bytes32.to_ne_bytes());
    // The common fields; flags and preemption count, which a BPF program cannot see, are 0.
    put(&header.event_id.to_ne_bytes());
    put(&[0; 2]);
    put(&header.tid.to_ne_bytes());
    out.extend_from_slice(&start);
    out.extend_from_slice(body);
    out.resize(out.len() + raw_bytes - raw.len(), 0);
    true
}

/// Appends what ends a record that is no sample.
pub(super) fn put_sample_id(
    out: &mut Vec<u8>,
    (tgid, tid): (u32, u32),
    time_ns: u64,
    cpu: u32,
    id: u64,
) {
    out.extend_from_slice(&tgid.to_ne_bytes());
    out.extend_from_slice(&tid.to_ne_bytes());
    out.extend_from_slice(&time_ns.to_ne_bytes());
    out.extend_from_slice(&u64::from(cpu).to_ne_bytes());
    out.extend_from_slice(&id.to_ne_bytes());
}

/// How many bytes a batch's events take in a file.
pub(super) fn encoded_bytes(batch: &Batch) -> u64 {
    let sample = |raw: &[u8]| BEFORE_RAW + (raw.len() + 4).next_multiple_of(8) - 4;
    batch
        .records()
        .map(|(_, record)| sample(record.raw) as u64)
        .sum()
}
