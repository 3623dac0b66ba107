//! What in a run of records is of interest, and when its turn is.

use bytes::Bytes;

use super::{Selection, choice::Choice};
use crate::{
    recording::{self, Catalog, kind},
    source::window,
};

/// What is of interest in a run of records.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The records; none where all that is needed of them is in the items.
    pub(super) run: Bytes,
    /// What is given out in the order of time: when, and what.
    pub(super) timed: Vec<(u64, Item)>,
    /// Records that say no time, and where they are. They are taken as they come.
    pub(super) untimed: Vec<usize>,
    /// Nothing from before this time will follow.
    pub(super) until_ns: Option<u64>,
    /// Samples that make no sense.
    pub(super) damaged: u64,
}

/// A record whose turn comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Where in the run the record is; of a sample, what is raw of it.
    at: u32,
    bytes: u32,
    attr: u32,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) cpu: u32,
}

impl Item {
    /// The attr of one that is no sample.
    const NO_SAMPLE: u32 = u32::MAX;

    fn other(at: usize, bytes: usize) -> Option<Self> {
        Some(Self {
            at: u32::try_from(at).ok()?,
            bytes: u32::try_from(bytes).ok()?,
            attr: Self::NO_SAMPLE,
            pid: 0,
            tid: 0,
            cpu: 0,
        })
    }

    /// The attr of a sample.
    pub(super) fn attr(&self) -> Option<usize> {
        (self.attr != Self::NO_SAMPLE).then_some(self.attr as usize)
    }

    /// Its bytes, if the run was kept.
    pub(super) fn bytes<'a>(&self, run: &'a [u8]) -> &'a [u8] {
        let rest = run.get(self.at as usize..).unwrap_or_default();
        rest.get(..self.bytes as usize).unwrap_or_default()
    }
}

/// Goes over the runs of a recording, one after the other.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    catalog: &'a Catalog,
    /// Per attr, whether its samples are of interest.
    wanted: Vec<bool>,
    keeps_raw: bool,
    newest_ns: u64,
    /// The newest of the rounds that are over.
    round_ns: u64,
    /// How many items the run before had.
    timed: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(catalog: &'a Catalog, choices: &[Choice], selection: &Selection) -> Self {
        let filter = &selection.filter;
        // Entries say which vCPU it is, even if they are not chosen.
        let by_vcpu = !filter.vcpus.is_empty();
        let wanted = |it: &Choice| it.slot.is_some() || by_vcpu && it.is_entry;
        Self {
            catalog,
            wanted: choices.iter().map(wanted).collect(),
            keeps_raw: !selection.without_raw || by_vcpu || filter.reasons.is_some(),
            newest_ns: 0,
            round_ns: 0,
            timed: 0,
        }
    }

    pub(super) fn scan(&mut self, run: Bytes) -> Scanned {
        let mut timed = Vec::with_capacity(self.timed);
        let mut untimed = Vec::new();
        let (mut until_ns, mut damaged) = (None, 0);
        let mut keeps_run = self.keeps_raw;
        for (at, record) in recording::records(&run) {
            match kind::of(record) {
                kind::SAMPLE => match self.sample(at, kind::body(record)) {
                    Sample::Wanted(time_ns, item) => timed.push((time_ns, item)),
                    Sample::Unwanted => {}
                    Sample::Damaged => damaged += 1,
                },
                kind::COMM | kind::FORK | kind::LOST | kind::LOST_SAMPLES => {
                    keeps_run = true;
                    let time_ns = self.catalog.time_of(record);
                    if time_ns == 0 {
                        untimed.push(at);
                    } else if let Some(item) = Item::other(at, record.len()) {
                        self.newest_ns = self.newest_ns.max(time_ns);
                        timed.push((time_ns, item));
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
            // What is let go of is read into again while the processor has it in its cache.
            run: if keeps_run { run } else { Bytes::new() },
            timed,
            untimed,
            until_ns,
            damaged,
        }
    }

    #[inline]
    fn sample(&mut self, at: usize, body: &[u8]) -> Sample {
        let Some(index) = self.catalog.attr_of_sample(body) else {
            return Sample::Damaged;
        };
        if !self.wanted[index] {
            return Sample::Unwanted;
        }
        let attr = &self.catalog.attrs[index];
        let Some(time_ns) = attr.time_of_sample(body) else {
            return Sample::Damaged;
        };
        self.newest_ns = self.newest_ns.max(time_ns);
        let item = attr.sample(body).and_then(|sample| {
            Some(Item {
                at: u32::try_from(kind::body_at(at) + sample.raw.start).ok()?,
                bytes: u32::try_from(sample.raw.len()).ok()?,
                attr: u32::try_from(index).ok()?,
                pid: sample.pid,
                tid: sample.tid,
                cpu: sample.cpu,
            })
        });
        item.map_or(Sample::Damaged, |item| Sample::Wanted(time_ns, item))
    }
}

enum Sample {
    Wanted(u64, Item),
    Unwanted,
    Damaged,
}
