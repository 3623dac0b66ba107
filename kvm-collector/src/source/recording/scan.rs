//! Scans the chunks of a recording for the records that are needed, and their times.

use bytes::Bytes;

use super::period::Period;
use crate::{
    recording::{self, Metadata, decode},
    source::reorder_buffer,
};

/// The records of a chunk that are needed.
#[derive(Debug)]
pub(super) struct ScannedChunk {
    /// The bytes of the chunk; empty if no record is needed beyond what `queued` contains.
    pub(super) chunk: Bytes,
    /// Records that are emitted in time order, each with its time in ns.
    pub(super) queued: Vec<(u64, QueuedRecord)>,
    /// Offsets of records without a time. They are handled as they arrive.
    pub(super) untimed: Vec<usize>,
    /// No later chunk contains a record before this time.
    pub(super) until_ns: Option<u64>,
    /// The period of the chunk's samples, needed or not.
    pub(super) period: Option<Period>,
}

/// A record that is held back until it can be emitted in time order.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRecord {
    /// The offset in the chunk. For an event it is that of the event's raw record; for an event
    /// that stands for several, that of the body of the perf record.
    offset: u32,
    /// The length from `offset` on.
    bytes: u32,
    /// The index of the attr, or one of the constants below.
    attr: u32,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) cpu: u32,
}

/// The kind of a queued record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An event, with the index of its attr.
    Event(usize),
    /// An event with a record that is too short. Its thread is known.
    Damaged,
    /// A sample that cannot be decoded.
    Undecodable,
    /// Events or records are missing here.
    Missing,
    /// A record other than a sample.
    NonSample,
}

impl QueuedRecord {
    const NON_SAMPLE: u32 = u32::MAX;
    const MISSING: u32 = u32::MAX - 1;
    const DAMAGED: u32 = u32::MAX - 2;
    const UNDECODABLE: u32 = u32::MAX - 3;

    fn non_sample(offset: usize, bytes: usize) -> Option<Self> {
        Some(Self {
            offset: u32::try_from(offset).ok()?,
            bytes: u32::try_from(bytes).ok()?,
            attr: Self::NON_SAMPLE,
            pid: 0,
            tid: 0,
            cpu: 0,
        })
    }

    /// Creates a record without contents, of one of the kinds above.
    fn marker(kind: u32) -> Self {
        Self {
            offset: 0,
            bytes: 0,
            attr: kind,
            pid: 0,
            tid: 0,
            cpu: 0,
        }
    }

    /// Returns the kind of the record.
    #[inline]
    pub(super) fn kind(&self) -> RecordKind {
        match self.attr {
            Self::NON_SAMPLE => RecordKind::NonSample,
            Self::MISSING => RecordKind::Missing,
            Self::DAMAGED => RecordKind::Damaged,
            Self::UNDECODABLE => RecordKind::Undecodable,
            attr => RecordKind::Event(attr as usize),
        }
    }

    /// Returns the bytes of the record; empty if the bytes of the chunk were not stored.
    #[inline]
    pub(super) fn bytes<'a>(&self, chunk: &'a [u8]) -> &'a [u8] {
        let rest = chunk.get(self.offset as usize..).unwrap_or_default();
        rest.get(..self.bytes as usize).unwrap_or_default()
    }
}

/// Scans the chunks of a file, which must be in file order.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    metadata: &'a Metadata,
    /// By attr: the minimum length of its records; `None` if its samples are not needed.
    min_record_bytes: Vec<Option<usize>>,
    /// Whether the raw records of events are needed.
    keeps_records: bool,
    newest_ns: u64,
    /// The latest time in the rounds that have finished.
    round_ns: u64,
    /// Number of queued records in the previous chunk.
    previous_queued: usize,
    /// The time of the last sample in the file.
    last_ns: u64,
    /// Whether records are missing since then, at an unknown time before the next sample.
    has_open_loss: bool,
}

impl<'a> Scanner<'a> {
    /// Creates a scanner. `min_record_bytes` has the minimum length of the records of each attr, or
    /// `None` if its samples are not needed. `keeps_records` tells whether the raw records of
    /// events are needed.
    pub(super) fn new(
        metadata: &'a Metadata,
        min_record_bytes: Vec<Option<usize>>,
        keeps_records: bool,
    ) -> Self {
        Self {
            metadata,
            min_record_bytes,
            keeps_records,
            newest_ns: 0,
            round_ns: 0,
            previous_queued: 0,
            last_ns: 0,
            has_open_loss: false,
        }
    }

    /// Returns the latest time of the records scanned so far.
    pub(super) fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    /// Returns a chunk that says that all further records of the file are missing.
    pub(super) fn scan_gap(&mut self) -> ScannedChunk {
        let mut gap = self.scan(Bytes::new());
        self.add_loss(&mut gap.queued, QueuedRecord::marker(QueuedRecord::MISSING));
        gap
    }

    /// Scans the next chunk.
    pub(super) fn scan(&mut self, chunk: Bytes) -> ScannedChunk {
        let mut queued = Vec::with_capacity(self.previous_queued);
        let mut untimed = Vec::new();
        let mut until_ns = None;
        let mut period: Option<Period> = None;
        let mut keeps_chunk = self.keeps_records;
        for (offset, record) in recording::records(&chunk) {
            match decode::record_type(record) {
                decode::SAMPLE => match self.sample(offset, decode::body(record)) {
                    Sample::Selected(time_ns, item) => {
                        Period::add_time(&mut period, time_ns);
                        self.note_sample_time(time_ns, &mut queued);
                        queued.push((time_ns, item));
                    }
                    Sample::Unselected(Some(time_ns)) => {
                        Period::add_time(&mut period, time_ns);
                        if self.has_open_loss {
                            self.note_sample_time(time_ns, &mut queued);
                        }
                    }
                    Sample::Unselected(None) => {}
                    Sample::Damaged => {
                        let item = QueuedRecord::marker(QueuedRecord::UNDECODABLE);
                        self.add_loss(&mut queued, item);
                    }
                },
                record_kind @ (decode::COMM
                | decode::FORK
                | decode::EXIT
                | decode::LOST
                | decode::LOST_SAMPLES) => {
                    keeps_chunk = true;
                    let Some(item) = QueuedRecord::non_sample(offset, record.len()) else {
                        continue;
                    };
                    let time_ns = self.metadata.non_sample_time(record);
                    if time_ns != 0 {
                        self.newest_ns = self.newest_ns.max(time_ns);
                        queued.push((time_ns, item));
                    } else if matches!(record_kind, decode::LOST | decode::LOST_SAMPLES) {
                        self.add_loss(&mut queued, item);
                    } else {
                        untimed.push(offset);
                    }
                }
                decode::FINISHED_ROUND => {
                    // A finished round means: no later record is earlier than the latest record of
                    // the previous round.
                    until_ns = Some(self.round_ns);
                    self.round_ns = self.newest_ns;
                }
                _ => {}
            }
        }
        reorder_buffer::sort(&mut queued);
        self.previous_queued = queued.len();
        ScannedChunk {
            // Memory that is freed early is reused for the next chunk while it is in the CPU cache.
            chunk: if keeps_chunk { chunk } else { Bytes::new() },
            queued,
            untimed,
            until_ns,
            period,
        }
    }

    /// Queues a loss at an unknown time: it is between the previous and the next sample in the
    /// file. A loss is queued at the times of both, so that no exit spans it.
    fn add_loss(&mut self, queued: &mut Vec<(u64, QueuedRecord)>, item: QueuedRecord) {
        queued.push((self.last_ns, item));
        self.has_open_loss = true;
    }

    /// Stores the time of a sample, and queues the second half of a loss with unknown time.
    #[inline]
    fn note_sample_time(&mut self, time_ns: u64, queued: &mut Vec<(u64, QueuedRecord)>) {
        if self.has_open_loss {
            self.has_open_loss = false;
            queued.push((time_ns, QueuedRecord::marker(QueuedRecord::MISSING)));
        }
        self.last_ns = time_ns;
    }

    #[inline]
    fn sample(&mut self, offset: usize, body: &[u8]) -> Sample {
        let Some(index) = self.metadata.sample_attr_index(body) else {
            return Sample::Damaged;
        };
        let attr = &self.metadata.attrs[index];
        let Some(min_bytes) = self.min_record_bytes[index] else {
            let time_ns = attr.sample_time(body).filter(|_| attr.has_times());
            return Sample::Unselected(time_ns);
        };
        let Some(time_ns) = attr.sample_time(body) else {
            return Sample::Damaged;
        };
        self.newest_ns = self.newest_ns.max(time_ns);
        let item = attr.sample(body).and_then(|sample| {
            let is_complete = sample.raw.len() >= min_bytes;
            let (offset, bytes) = if attr.is_sampled {
                (decode::body_offset(offset), body.len())
            } else {
                (
                    decode::body_offset(offset) + sample.raw.start,
                    sample.raw.len(),
                )
            };
            Some(QueuedRecord {
                offset: u32::try_from(offset).ok()?,
                bytes: u32::try_from(bytes).ok()?,
                attr: if is_complete {
                    u32::try_from(index).ok()?
                } else {
                    QueuedRecord::DAMAGED
                },
                pid: sample.pid,
                tid: sample.tid,
                cpu: sample.cpu,
            })
        });
        item.map_or(Sample::Damaged, |item| Sample::Selected(time_ns, item))
    }
}

/// The result of decoding a sample.
enum Sample {
    /// A needed sample, with its time.
    Selected(u64, QueuedRecord),
    /// A sample that is not needed; with its time, if it has one.
    Unselected(Option<u64>),
    Damaged,
}
