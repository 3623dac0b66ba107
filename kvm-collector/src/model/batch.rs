//! Records as they were shipped, in batches.

use bytes::Bytes;
use kvm_ebpf_common::{
    RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, RecordHeader, SLOW_EXIT_SLOT, SlowExit, THREAD_END_SLOT,
};

/// Records that were read together.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Bytes,
}

/// One event as it was shipped.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When, where and what.
    pub header: RecordHeader,
    /// The raw record, with all fields at their offsets; see [`RecordHeader`] for the common ones.
    pub raw: &'a [u8],
}

impl Batch {
    /// Wraps records that lie one behind the other, as in a batch of `probe::Rings`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Is there nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes its records take.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Copies it to memory of exactly its size: a batch otherwise keeps all of the buffer that it was read into.
    #[must_use]
    pub fn to_own_memory(&self) -> Self {
        Self::new(Bytes::copy_from_slice(&self.bytes))
    }

    /// The records, each with its place in the batch; ends early at a length that cannot be one, which
    /// only damaged memory has.
    pub fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let mut place = 0;
        std::iter::from_fn(move || {
            let record = self.record(place)?;
            let here = place;
            place += usize::from(record.header.length);
            Some((here, record))
        })
    }

    /// The record at a place that [`Batch::records`] gave.
    #[must_use]
    pub fn record(&self, place: usize) -> Option<Record<'_>> {
        let bytes = self.bytes.get(place..)?;
        let header = header(bytes)?;
        let raw = bytes.get(RECORD_RAW_OFFSET..usize::from(header.length))?;
        Some(Record { header, raw })
    }
}

impl<'a> Record<'a> {
    /// The name of the thread, if this is no event but says that it has ended.
    #[must_use]
    pub fn ended_comm(&self) -> Option<&'a [u8]> {
        if self.header.slot != THREAD_END_SLOT {
            return None;
        }
        let comm = self.raw.get(RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..)?;
        comm.split(|byte| *byte == 0).next()
    }

    /// The exit that took long, if this is no event but reports one.
    #[must_use]
    pub fn slow_exit(&self) -> Option<SlowExit> {
        const BEHIND_HEADER: usize = size_of::<SlowExit>() - RECORD_HEADER_BYTES;
        if self.header.slot != SLOW_EXIT_SLOT {
            return None;
        }
        let behind = self.raw.get(RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..)?;
        let mut bytes = [0; BEHIND_HEADER];
        bytes.copy_from_slice(behind.get(..BEHIND_HEADER)?);
        // SAFETY: plain integers from as many bytes as they have; the slice may be unaligned.
        Some(unsafe {
            let behind: [u8; BEHIND_HEADER] = bytes;
            let mut exit = std::mem::MaybeUninit::<SlowExit>::uninit();
            exit.as_mut_ptr().cast::<RecordHeader>().write(self.header);
            exit.as_mut_ptr()
                .cast::<u8>()
                .add(RECORD_HEADER_BYTES)
                .copy_from_nonoverlapping(behind.as_ptr(), BEHIND_HEADER);
            exit.assume_init()
        })
    }
}

fn header(bytes: &[u8]) -> Option<RecordHeader> {
    let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
    // SAFETY: as many bytes as the header has, any of which are valid; the slice may be unaligned.
    let header = unsafe { bytes.as_ptr().cast::<RecordHeader>().read_unaligned() };
    (usize::from(header.length) >= RECORD_HEADER_BYTES).then_some(header)
}
