//! Batches of records that the eBPF programs wrote to a ring.

use bytes::Bytes;
use kvm_ebpf_common::{
    RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, RecordHeader, SLOW_EXIT_SLOT, SlowExit, THREAD_END_SLOT,
};

/// Records that were read from a ring together, one directly after the other.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Bytes,
}

/// One record of a batch: an event, the end of a thread, or a slow exit.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Time, thread, CPU and slot.
    pub header: RecordHeader,
    /// The event's raw record, with each field at the offset that its format gives.
    /// [`RecordHeader`] describes the common fields.
    pub raw: &'a [u8],
}

impl Batch {
    /// Wraps bytes that hold records, as `probe::Rings` returns them.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// Returns whether the batch has no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the length of all records in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Copies the batch to memory of exactly its size. Without this, a batch keeps the whole buffer
    /// that it was read into.
    #[must_use]
    pub fn to_exact_size(&self) -> Self {
        Self::new(Bytes::copy_from_slice(&self.bytes))
    }

    /// Iterates over the records, each with its offset in the batch. Stops at a record with
    /// an invalid length, which only damaged memory contains.
    pub fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let mut next_offset = 0;
        std::iter::from_fn(move || {
            let record = self.record_at(next_offset)?;
            let offset = next_offset;
            next_offset += usize::from(record.header.length);
            Some((offset, record))
        })
    }

    /// Returns the record at an offset that [`Batch::records`] returned.
    #[must_use]
    pub fn record_at(&self, offset: usize) -> Option<Record<'_>> {
        let bytes = self.bytes.get(offset..)?;
        let header = header(bytes)?;
        let raw = bytes.get(RECORD_RAW_OFFSET..usize::from(header.length))?;
        Some(Record { header, raw })
    }
}

impl<'a> Record<'a> {
    /// Returns the name of the thread, if this record reports the end of a thread.
    #[must_use]
    pub fn thread_end_comm(&self) -> Option<&'a [u8]> {
        if self.header.slot != THREAD_END_SLOT {
            return None;
        }
        let comm = self.raw.get(RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..)?;
        comm.split(|byte| *byte == 0).next()
    }

    /// Returns the slow exit, if this record reports one.
    #[must_use]
    pub fn slow_exit(&self) -> Option<SlowExit> {
        const BYTES_AFTER_HEADER: usize = size_of::<SlowExit>() - RECORD_HEADER_BYTES;
        if self.header.slot != SLOW_EXIT_SLOT {
            return None;
        }
        let rest = self.raw.get(RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..)?;
        let mut bytes = [0; BYTES_AFTER_HEADER];
        bytes.copy_from_slice(rest.get(..BYTES_AFTER_HEADER)?);
        // SAFETY: `SlowExit` is plain integers without padding, and all of its bytes are written.
        // The source may be unaligned, so the bytes are copied.
        Some(unsafe {
            let rest: [u8; BYTES_AFTER_HEADER] = bytes;
            let mut exit = std::mem::MaybeUninit::<SlowExit>::uninit();
            exit.as_mut_ptr().cast::<RecordHeader>().write(self.header);
            exit.as_mut_ptr()
                .cast::<u8>()
                .add(RECORD_HEADER_BYTES)
                .copy_from_nonoverlapping(rest.as_ptr(), BYTES_AFTER_HEADER);
            exit.assume_init()
        })
    }
}

fn header(bytes: &[u8]) -> Option<RecordHeader> {
    let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
    // SAFETY: the slice has the size of the header, and every bit pattern is a valid header. The
    // slice may be unaligned, so it is read unaligned.
    let header = unsafe { bytes.as_ptr().cast::<RecordHeader>().read_unaligned() };
    (usize::from(header.length) >= RECORD_HEADER_BYTES).then_some(header)
}
