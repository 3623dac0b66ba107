//! Where in a record the thread, the time and so on lie, which an event's `perf_event_attr` decides.

use std::ops::Range;

use kvm_ebpf_common::is_time;

use super::abi::{TYPE_TRACEPOINT, flag, read_format, sample, u32_at, u64_at};

/// What is in the samples of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attr {
    /// The number of the tracepoint, if it is one.
    pub(crate) tracepoint: Option<u64>,
    pub(crate) sample_type: u64,
    read_format: u64,
    pub(crate) sample_id_all: bool,
    /// Not every event was recorded: each sample stands for several events.
    pub(crate) is_sampled: bool,
    /// How many, where a sample does not say (`sample_period`).
    period: u64,
    /// The clock of its times, if it was chosen.
    pub(crate) clock: Option<u32>,
    places: Places,
}

/// Where a sample has what, in bytes behind the record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    tid: Option<usize>,
    time: Option<usize>,
    cpu: Option<usize>,
    period: Option<usize>,
    /// Up to here all is of the same length in each sample.
    variable: usize,
}

impl Places {
    fn of(sample_type: u64) -> Self {
        let mut places = Self {
            tid: None,
            time: None,
            cpu: None,
            period: None,
            variable: 0,
        };
        for bit in sample::FIXED {
            if sample_type & bit == 0 {
                continue;
            }
            let place = Some(places.variable);
            match bit {
                sample::TID => places.tid = place,
                sample::TIME => places.time = place,
                sample::CPU => places.cpu = place,
                sample::PERIOD => places.period = place,
                _ => {}
            }
            places.variable += 8;
        }
        places
    }
}

/// A sample, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) time_ns: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    /// How many events it stands for, itself included; 0 if every event was recorded.
    pub(crate) weight: u64,
    /// Where the raw record is, in what is behind the record's header.
    pub(crate) raw: Range<usize>,
}

impl Attr {
    /// From the bytes of a `perf_event_attr`, of which older and newer kernels have fewer and more.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        // `clockid` came with version 3, of 96 bytes.
        let flags = u64_at(bytes, 40)?;
        let is_tracepoint = u32_at(bytes, 0)? == TYPE_TRACEPOINT;
        let sample_type = u64_at(bytes, 24)?;
        // A frequency instead, if a flag says so; then only the samples know.
        let (period, is_frequency) = (u64_at(bytes, 16)?, flags & flag::FREQ != 0);
        Some(Self {
            tracepoint: u64_at(bytes, 8).filter(|_| is_tracepoint),
            sample_type,
            read_format: u64_at(bytes, 32)?,
            is_sampled: is_frequency || period > 1,
            period: if is_frequency { 1 } else { period.max(1) },
            sample_id_all: flags & flag::SAMPLE_ID_ALL != 0,
            clock: u32_at(bytes, 92).filter(|_| flags & flag::USE_CLOCKID != 0),
            places: Places::of(sample_type),
        })
    }

    fn has(&self, bit: u64) -> bool {
        self.sample_type & bit != 0
    }

    /// Where a sample has the id of its event, in 8 bytes behind the record's header.
    pub(crate) fn id_in_sample(&self) -> Option<usize> {
        if self.has(sample::IDENTIFIER) {
            return Some(0);
        }
        let before = [sample::IP, sample::TID, sample::TIME, sample::ADDR];
        self.has(sample::ID)
            .then(|| before.iter().filter(|bit| self.has(**bit)).count())
    }

    /// When a record that is no sample happened; 0 if it does not say.
    pub(crate) fn time_of(&self, record: &[u8]) -> u64 {
        let behind = [
            sample::TIME,
            sample::ID,
            sample::STREAM_ID,
            sample::CPU,
            sample::IDENTIFIER,
        ];
        if !self.sample_id_all || !self.has(sample::TIME) {
            return 0;
        }
        let from_end = 8 * behind.iter().filter(|bit| self.has(**bit)).count();
        record
            .len()
            .checked_sub(from_end)
            .and_then(|at| u64_at(record, at))
            .filter(|ns| is_time(*ns))
            .unwrap_or(0)
    }

    /// On which CPU a record that is no sample was written, if it says so.
    pub(crate) fn cpu_of(&self, record: &[u8]) -> Option<u32> {
        if !self.sample_id_all || !self.has(sample::CPU) {
            return None;
        }
        let from_end = 8 + 8 * usize::from(self.has(sample::IDENTIFIER));
        u32_at(record, record.len().checked_sub(from_end)?)
    }

    /// The time of a sample. `None` if it has none, or one that no clock says.
    #[inline]
    pub(crate) fn time_of_sample(&self, body: &[u8]) -> Option<u64> {
        match self.places.time {
            Some(place) => u64_at(body, place).filter(|ns| is_time(*ns)),
            None => Some(0),
        }
    }

    /// Reads a sample from what is behind the record's header. `None` if it is too short for what it should have.
    #[inline(always)]
    pub(crate) fn sample(&self, body: &[u8]) -> Option<Sample> {
        let places = &self.places;
        if body.len() < places.variable {
            return None;
        }
        let number = |place| u32_at(body, place).unwrap_or(0);
        let mut rest = Rest {
            body,
            at: places.variable,
        };
        if self.has(sample::READ) {
            self.skip_read(&mut rest)?;
        }
        if self.has(sample::CALLCHAIN) {
            let entries = rest.u64()?;
            rest.skip(entries.checked_mul(8)?)?;
        }
        let mut raw = 0..0;
        if self.has(sample::RAW) {
            let bytes = rest.u32()?;
            let from = rest.at;
            rest.skip(bytes.into())?;
            raw = from..rest.at;
        }
        Some(Sample {
            time_ns: self.time_of_sample(body)?,
            pid: places.tid.map_or(0, number),
            tid: places.tid.map_or(0, |place| number(place + 4)),
            cpu: places.cpu.map_or(0, number),
            weight: if self.is_sampled {
                self.weight(body)
            } else {
                0
            },
            raw,
        })
    }

    /// How many events a sample stands for.
    #[cold]
    fn weight(&self, body: &[u8]) -> u64 {
        let period = self.places.period.and_then(|place| u64_at(body, place));
        period.unwrap_or(self.period).max(1)
    }

    /// The counter's value and what else `read_format` asks for.
    fn skip_read(&self, rest: &mut Rest<'_>) -> Option<()> {
        let count = |bits: &[u64]| {
            bits.iter()
                .filter(|bit| self.read_format & **bit != 0)
                .count() as u64
        };
        let times = count(&[
            read_format::TOTAL_TIME_ENABLED,
            read_format::TOTAL_TIME_RUNNING,
        ]);
        let each = 1 + count(&[read_format::ID, read_format::LOST]);
        if self.read_format & read_format::GROUP == 0 {
            return rest.skip(8 * (times + each));
        }
        let counters = rest.u64()?;
        rest.skip(counters.checked_mul(8 * each)?.checked_add(8 * times)?)
    }
}

struct Rest<'a> {
    body: &'a [u8],
    at: usize,
}

impl Rest<'_> {
    fn u64(&mut self) -> Option<u64> {
        let number = u64_at(self.body, self.at)?;
        self.at += 8;
        Some(number)
    }

    fn u32(&mut self) -> Option<u32> {
        let number = u32_at(self.body, self.at)?;
        self.at += 4;
        Some(number)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(bytes).ok()?)?;
        (self.at <= self.body.len()).then_some(())
    }
}
