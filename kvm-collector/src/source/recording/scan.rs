//! What in a run of records is of interest, and when its turn is.

use bytes::Bytes;

use crate::{
    recording::{self, Catalog, kind},
    source::window,
};

/// What is of interest in a run of records.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The records; none where all that is needed of them is in the items.
    pub(super) run: Bytes,
    /// What is passed on in the order of time: when, and what.
    pub(super) timed: Vec<(u64, QueuedRecord)>,
    /// Records that say no time, and where they are. They are taken as they come.
    pub(super) untimed: Vec<usize>,
    /// Nothing from before this time will follow.
    pub(super) until_ns: Option<u64>,
    /// Samples that cannot be decoded.
    pub(super) damaged: u64,
}

/// A record that waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRecord {
    /// Where in the run the record is; of an event, its raw part, and of an event of a sample, what is behind the
    /// record's header.
    at: u32,
    bytes: u32,
    attr: u32,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) cpu: u32,
}

/// What a queued record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An event, by its attr.
    Event(usize),
    /// An event whose record is too short. Its thread is known.
    Damaged,
    /// Events or records are missing here.
    Missing,
    /// A record that is no sample.
    Other,
}

impl QueuedRecord {
    const OTHER: u32 = u32::MAX;
    const MISSING: u32 = u32::MAX - 1;
    const DAMAGED: u32 = u32::MAX - 2;

    fn other(at: usize, bytes: usize) -> Option<Self> {
        Some(Self {
            at: u32::try_from(at).ok()?,
            bytes: u32::try_from(bytes).ok()?,
            attr: Self::OTHER,
            pid: 0,
            tid: 0,
            cpu: 0,
        })
    }

    fn missing() -> Self {
        Self {
            at: 0,
            bytes: 0,
            attr: Self::MISSING,
            pid: 0,
            tid: 0,
            cpu: 0,
        }
    }

    /// What it is.
    #[inline]
    pub(super) fn kind(&self) -> RecordKind {
        match self.attr {
            Self::OTHER => RecordKind::Other,
            Self::MISSING => RecordKind::Missing,
            Self::DAMAGED => RecordKind::Damaged,
            attr => RecordKind::Event(attr as usize),
        }
    }

    /// Its bytes, if the run was kept.
    #[inline]
    pub(super) fn bytes<'a>(&self, run: &'a [u8]) -> &'a [u8] {
        let rest = run.get(self.at as usize..).unwrap_or_default();
        rest.get(..self.bytes as usize).unwrap_or_default()
    }
}

/// Goes over the runs of a recording, one after the other.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    catalog: &'a Catalog,
    /// Per attr, whether its samples are of interest, and how long their records are at least.
    wanted: Vec<Option<usize>>,
    keeps_records: bool,
    newest_ns: u64,
    /// The newest of the rounds that are over.
    round_ns: u64,
    /// How many items the run before had.
    timed: usize,
    /// The time of the last sample in the file.
    last_ns: u64,
    /// Since then, records have been missing at a time that is not known: it is before the next sample.
    is_missing: bool,
}

impl<'a> Scanner<'a> {
    /// `wanted` says of each attr whether its samples are of interest, and how long their records are at least;
    /// `keeps_records` whether the records are of interest.
    pub(super) fn new(
        catalog: &'a Catalog,
        wanted: Vec<Option<usize>>,
        keeps_records: bool,
    ) -> Self {
        Self {
            catalog,
            wanted,
            keeps_records,
            newest_ns: 0,
            round_ns: 0,
            timed: 0,
            last_ns: 0,
            is_missing: false,
        }
    }

    pub(super) fn scan(&mut self, run: Bytes) -> Scanned {
        let mut timed = Vec::with_capacity(self.timed);
        let mut untimed = Vec::new();
        let (mut until_ns, mut damaged) = (None, 0);
        let mut keeps_run = self.keeps_records;
        for (at, record) in recording::records(&run) {
            match kind::of(record) {
                kind::SAMPLE => match self.sample(at, kind::body(record)) {
                    Sample::Wanted(time_ns, item) => {
                        self.meet_sample(time_ns, &mut timed);
                        timed.push((time_ns, item));
                    }
                    Sample::Unwanted(Some(time_ns)) => self.meet_sample(time_ns, &mut timed),
                    Sample::Unwanted(None) => {}
                    Sample::Damaged => {
                        damaged += 1;
                        self.miss(&mut timed, QueuedRecord::missing());
                    }
                },
                record_kind @ (kind::COMM
                | kind::FORK
                | kind::EXIT
                | kind::LOST
                | kind::LOST_SAMPLES) => {
                    keeps_run = true;
                    let Some(item) = QueuedRecord::other(at, record.len()) else {
                        continue;
                    };
                    let time_ns = self.catalog.time_of(record);
                    if time_ns != 0 {
                        self.newest_ns = self.newest_ns.max(time_ns);
                        timed.push((time_ns, item));
                    } else if matches!(record_kind, kind::LOST | kind::LOST_SAMPLES) {
                        self.miss(&mut timed, item);
                    } else {
                        untimed.push(at);
                    }
                }
                kind::FINISHED_ROUND => {
                    // What is before the newest of the round before cannot be preceded any more.
                    until_ns = Some(self.round_ns);
                    self.round_ns = self.newest_ns;
                }
                _ => {}
            }
        }
        window::sort(&mut timed);
        self.timed = timed.len();
        Scanned {
            // A run that is freed is read into again while the processor has it in its cache.
            run: if keeps_run { run } else { Bytes::new() },
            timed,
            untimed,
            until_ns,
            damaged,
        }
    }

    /// Something is missing, and its record does not say when: after the last sample and before the next one in the
    /// file. Both ends are marked, so that nothing is taken to reach across.
    fn miss(&mut self, timed: &mut Vec<(u64, QueuedRecord)>, item: QueuedRecord) {
        timed.push((self.last_ns, item));
        self.is_missing = true;
    }

    #[inline]
    fn meet_sample(&mut self, time_ns: u64, timed: &mut Vec<(u64, QueuedRecord)>) {
        if self.is_missing {
            self.is_missing = false;
            timed.push((time_ns, QueuedRecord::missing()));
        }
        self.last_ns = time_ns;
    }

    #[inline]
    fn sample(&mut self, at: usize, body: &[u8]) -> Sample {
        let Some(index) = self.catalog.attr_of_sample(body) else {
            return Sample::Damaged;
        };
        let attr = &self.catalog.attrs[index];
        let Some(min_bytes) = self.wanted[index] else {
            return Sample::Unwanted(self.is_missing.then(|| attr.time_of_sample(body)).flatten());
        };
        let Some(time_ns) = attr.time_of_sample(body) else {
            return Sample::Damaged;
        };
        self.newest_ns = self.newest_ns.max(time_ns);
        let item = attr.sample(body).and_then(|sample| {
            let is_whole = sample.raw.len() >= min_bytes;
            let (at, bytes) = if attr.is_sampled {
                (kind::body_at(at), body.len())
            } else {
                (kind::body_at(at) + sample.raw.start, sample.raw.len())
            };
            Some(QueuedRecord {
                at: u32::try_from(at).ok()?,
                bytes: u32::try_from(bytes).ok()?,
                attr: if is_whole {
                    u32::try_from(index).ok()?
                } else {
                    QueuedRecord::DAMAGED
                },
                pid: sample.pid,
                tid: sample.tid,
                cpu: sample.cpu,
            })
        });
        item.map_or(Sample::Damaged, |item| Sample::Wanted(time_ns, item))
    }
}

enum Sample {
    Wanted(u64, QueuedRecord),
    /// Not of interest; its time, if somebody waits for one.
    Unwanted(Option<u64>),
    Damaged,
}
