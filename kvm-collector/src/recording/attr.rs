//! Decodes samples. The event's `perf_event_attr` determines which values a sample has, and where.

use std::ops::Range;

use kvm_ebpf_common::is_valid_time;

use super::abi::{TYPE_TRACEPOINT, flag, read_format, sample, u32_at, u64_at};

/// The part of an event's `perf_event_attr` that decoding needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventAttr {
    /// `type` and `config`: the kind of event, and the number of the event.
    pub(super) event_type: u32,
    pub(super) config: u64,
    /// The number of the tracepoint. `None` for other events.
    pub(crate) tracepoint: Option<u64>,
    pub(crate) sample_type: u64,
    read_format: u64,
    pub(crate) sample_id_all: bool,
    /// Whether only some events were recorded, so that a sample stands for several events.
    pub(crate) is_sampled: bool,
    /// Whether the event has no samples of its own, but is only counted in those of the leader of its group.
    pub(crate) is_only_counted: bool,
    /// Number of events per sample (`sample_period`), for samples that do not contain it.
    period: u64,
    /// The id of the clock of the times. `None` means perf's own clock.
    pub(crate) clock: Option<u32>,
    offsets: SampleOffsets,
}

/// Offsets of values in the body of a sample, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleOffsets {
    tid: Option<usize>,
    time: Option<usize>,
    cpu: Option<usize>,
    period: Option<usize>,
    /// Where the values of fixed size end.
    fixed_end: usize,
}

impl SampleOffsets {
    fn new(sample_type: u64) -> Self {
        let mut offsets = Self {
            tid: None,
            time: None,
            cpu: None,
            period: None,
            fixed_end: 0,
        };
        for bit in sample::FIXED {
            if sample_type & bit == 0 {
                continue;
            }
            let offset = Some(offsets.fixed_end);
            match bit {
                sample::TID => offsets.tid = offset,
                sample::TIME => offsets.time = offset,
                sample::CPU => offsets.cpu = offset,
                sample::PERIOD => offsets.period = offset,
                _ => {}
            }
            offsets.fixed_end += 8;
        }
        offsets
    }
}

/// The values of a sample that this program uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) time_ns: u64,
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    /// Number of events that the sample stands for, including itself. 0 if every event was recorded.
    pub(crate) weight: u64,
    /// The bytes of the raw record in the body.
    pub(crate) raw: Range<usize>,
}

impl EventAttr {
    /// Parses a `perf_event_attr`. Its size depends on the kernel version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let flags = u64_at(bytes, 40)?;
        let (event_type, config) = (u32_at(bytes, 0)?, u64_at(bytes, 8)?);
        let sample_type = u64_at(bytes, 24)?;
        // This field is a frequency if a flag is set. Then only the samples have the period.
        let (period, is_frequency) = (u64_at(bytes, 16)?, flags & flag::FREQ != 0);
        Some(Self {
            event_type,
            config,
            tracepoint: (event_type == TYPE_TRACEPOINT).then_some(config),
            sample_type,
            read_format: u64_at(bytes, 32)?,
            is_sampled: is_frequency || period > 1,
            // The leader's samples have the counts of its group. Without a group, samples with raw data may be there.
            is_only_counted: period == 0
                && (sample_type & sample::READ != 0 || sample_type & sample::RAW == 0),
            period: if is_frequency { 1 } else { period.max(1) },
            sample_id_all: flags & flag::SAMPLE_ID_ALL != 0,
            // `clockid` exists since version 3 (96 bytes).
            clock: u32_at(bytes, 92).filter(|_| flags & flag::USE_CLOCKID != 0),
            offsets: SampleOffsets::new(sample_type),
        })
    }

    fn has(&self, bit: u64) -> bool {
        self.sample_type & bit != 0
    }

    /// Returns whether the event's samples have times.
    #[inline]
    pub(crate) fn has_times(&self) -> bool {
        self.has(sample::TIME)
    }

    /// Returns what samples of a tracepoint need but this event's do not have.
    pub(super) fn missing_value(&self) -> Option<&'static str> {
        if !self.has_times() {
            return Some("times");
        }
        (!self.has(sample::RAW)).then_some("raw data, which has the fields of the event")
    }

    /// Returns the offset of the event id in the body of a sample, in units of 8 bytes.
    pub(crate) fn sample_id_index(&self) -> Option<usize> {
        if self.has(sample::IDENTIFIER) {
            return Some(0);
        }
        let before = [sample::IP, sample::TID, sample::TIME, sample::ADDR];
        self.has(sample::ID)
            .then(|| before.iter().filter(|bit| self.has(**bit)).count())
    }

    /// Returns the time of a record that is not a sample. 0 if it has no time.
    pub(crate) fn non_sample_time(&self, record: &[u8]) -> u64 {
        let from_time_on = [
            sample::TIME,
            sample::ID,
            sample::STREAM_ID,
            sample::CPU,
            sample::IDENTIFIER,
        ];
        if !self.sample_id_all || !self.has(sample::TIME) {
            return 0;
        }
        let from_end = 8 * from_time_on.iter().filter(|bit| self.has(**bit)).count();
        record
            .len()
            .checked_sub(from_end)
            .and_then(|offset| u64_at(record, offset))
            .filter(|ns| is_valid_time(*ns))
            .unwrap_or(0)
    }

    /// Returns the CPU of a record that is not a sample. `None` if it has no CPU.
    pub(crate) fn non_sample_cpu(&self, record: &[u8]) -> Option<u32> {
        if !self.sample_id_all || !self.has(sample::CPU) {
            return None;
        }
        let from_end = 8 + 8 * usize::from(self.has(sample::IDENTIFIER));
        u32_at(record, record.len().checked_sub(from_end)?)
    }

    /// Returns the time of a sample, or 0 if this event's samples have no time. `None` if the sample is
    /// damaged: it is too short, or the time is out of range.
    #[inline]
    pub(crate) fn sample_time(&self, body: &[u8]) -> Option<u64> {
        match self.offsets.time {
            Some(offset) => u64_at(body, offset).filter(|ns| is_valid_time(*ns)),
            None => Some(0),
        }
    }

    /// Decodes the body of a sample. `None` if it is too short.
    #[inline(always)]
    pub(crate) fn sample(&self, body: &[u8]) -> Option<Sample> {
        let offsets = &self.offsets;
        if body.len() < offsets.fixed_end {
            return None;
        }
        let number = |offset| u32_at(body, offset).unwrap_or(0);
        let mut rest = Cursor {
            body,
            offset: offsets.fixed_end,
        };
        if self.has(sample::READ) {
            self.skip_read_values(&mut rest)?;
        }
        if self.has(sample::CALLCHAIN) {
            let entries = rest.u64()?;
            rest.skip(entries.checked_mul(8)?)?;
        }
        let mut raw = 0..0;
        if self.has(sample::RAW) {
            let bytes = rest.u32()?;
            let from = rest.offset;
            rest.skip(bytes.into())?;
            raw = from..rest.offset;
        }
        Some(Sample {
            time_ns: self.sample_time(body)?,
            pid: offsets.tid.map_or(0, number),
            tid: offsets.tid.map_or(0, |offset| number(offset + 4)),
            cpu: offsets.cpu.map_or(0, number),
            weight: if self.is_sampled {
                self.weight(body)
            } else {
                0
            },
            raw,
        })
    }

    /// Returns the number of events that a sample stands for.
    #[cold]
    fn weight(&self, body: &[u8]) -> u64 {
        let period = self.offsets.period.and_then(|offset| u64_at(body, offset));
        period.unwrap_or(self.period).max(1)
    }

    /// Skips the counter values. Their layout depends on `read_format`.
    fn skip_read_values(&self, rest: &mut Cursor<'_>) -> Option<()> {
        let count = |bits: &[u64]| {
            bits.iter()
                .filter(|bit| self.read_format & **bit != 0)
                .count() as u64
        };
        let times = count(&[
            read_format::TOTAL_TIME_ENABLED,
            read_format::TOTAL_TIME_RUNNING,
        ]);
        let values_per_counter = 1 + count(&[read_format::ID, read_format::LOST]);
        if self.read_format & read_format::GROUP == 0 {
            return rest.skip(8 * (times + values_per_counter));
        }
        let counters = rest.u64()?;
        rest.skip(
            counters
                .checked_mul(8 * values_per_counter)?
                .checked_add(8 * times)?,
        )
    }
}

struct Cursor<'a> {
    body: &'a [u8],
    offset: usize,
}

impl Cursor<'_> {
    fn u64(&mut self) -> Option<u64> {
        let number = u64_at(self.body, self.offset)?;
        self.offset += 8;
        Some(number)
    }

    fn u32(&mut self) -> Option<u32> {
        let number = u32_at(self.body, self.offset)?;
        self.offset += 4;
        Some(number)
    }

    fn skip(&mut self, bytes: u64) -> Option<()> {
        self.offset = self.offset.checked_add(usize::try_from(bytes).ok()?)?;
        (self.offset <= self.body.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_members_of_groups_are_only_counted() {
        let attr = |sample_type: u64| {
            let mut bytes = vec![0; 128];
            bytes[..4].copy_from_slice(&TYPE_TRACEPOINT.to_ne_bytes());
            bytes[24..32].copy_from_slice(&sample_type.to_ne_bytes());
            EventAttr::parse(&bytes).expect("an attribute")
        };
        let with_events = sample::TIME | sample::RAW;
        assert!(!attr(with_events).is_only_counted);
        assert!(attr(with_events | sample::READ).is_only_counted);
        assert!(attr(sample::TIME).is_only_counted);
    }
}
