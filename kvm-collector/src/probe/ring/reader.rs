//! Reads the ring of one CPU. It depends on nothing but the memory, so tests can run it with a model of the writer.
//!
//! The writer stores a record, and then the new `head` with release ordering. The reader loads `head` with acquire
//! ordering, copies the records before it, and stores `tail` with release ordering. The writer does not write between
//! `tail` and `head`.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{BufMut as _, BytesMut};
use kvm_ebpf_common::{CHUNK_BYTES, RECORD_HEADER_BYTES, RecordHeader, RingPosition};

/// A word of memory that is shared with the writer.
pub(super) trait Word {
    /// See [`AtomicU64::load`].
    fn load(&self, ordering: Ordering) -> u64;
    /// See [`AtomicU64::store`].
    fn store(&self, word: u64, ordering: Ordering);
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        Self::load(self, ordering)
    }

    #[inline]
    fn store(&self, word: u64, ordering: Ordering) {
        Self::store(self, word, ordering);
    }
}

/// A ring's memory.
#[derive(Debug)]
pub(super) struct RingMemory<'m, W> {
    /// The records: one or more chunks.
    pub(super) records: &'m [W],
    /// The words of the [`RingPosition`].
    pub(super) position: &'m [W],
}

impl<W> Clone for RingMemory<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for RingMemory<'_, W> {}

impl<W: Word> RingMemory<'_, W> {
    /// Returns the number of records that the writer has lost.
    pub(super) fn lost(&self) -> u64 {
        self.position[offset_of!(RingPosition, lost) / 8].load(Ordering::Relaxed)
    }

    /// Returns the words of `bytes` bytes at a position, which counts all bytes ever written. They must be in one chunk.
    fn words(&self, position: u64, bytes: usize) -> &[W] {
        let words = self.records.len() as u64;
        let index = (position / 8 % words) as usize;
        &self.records[index..][..bytes / 8]
    }
}

/// The next item of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There were no more records at the latest poll.
    None,
    /// A record.
    Record(RecordHeader),
    /// This number of bytes cannot be records, and is skipped. Only damaged memory has them.
    Damaged(u64),
}

/// Positions up to which a ring was written at the latest poll, and has been read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RingReader {
    head: u64,
    tail: u64,
}

impl RingReader {
    /// Creates a reader that starts at a position.
    #[cfg(test)]
    pub(super) fn at(position: u64) -> Self {
        Self {
            head: position,
            tail: position,
        }
    }

    /// Reads the head of the ring. Returns the number of bytes to read.
    pub(super) fn poll<W: Word>(&mut self, memory: RingMemory<'_, W>) -> u64 {
        self.head = memory.position[offset_of!(RingPosition, head) / 8].load(Ordering::Acquire);
        self.head.wrapping_sub(self.tail)
    }

    /// Returns the next record from before the latest poll.
    pub(super) fn next<W: Word>(&mut self, memory: RingMemory<'_, W>) -> Next {
        loop {
            let waiting = self.head.wrapping_sub(self.tail);
            if waiting == 0 {
                return Next::None;
            }
            // A record does not cross the end of a chunk.
            let left = CHUNK_BYTES as u64 - self.tail % CHUNK_BYTES as u64;
            if waiting > memory.records.len() as u64 * 8 || !self.tail.is_multiple_of(8) {
                return self.skip_damaged(waiting);
            }
            if left >= RECORD_HEADER_BYTES as u64 {
                let words = memory.words(self.tail, RECORD_HEADER_BYTES);
                let words =
                    [&words[0], &words[1], &words[2]].map(|word| word.load(Ordering::Relaxed));
                let header: RecordHeader = zerocopy::transmute!(words);
                let length = u64::from(header.length);
                if length > left.min(waiting) || !length.is_multiple_of(8) {
                    return self.skip_damaged(waiting);
                }
                if length >= RECORD_HEADER_BYTES as u64 {
                    return Next::Record(header);
                }
            }
            // There are no more records in this chunk.
            self.tail += left.min(waiting);
        }
    }

    fn skip_damaged(&mut self, bytes: u64) -> Next {
        self.tail = self.head;
        Next::Damaged(bytes)
    }

    /// Copies the record that [`RingReader::next`] returned, and advances behind it.
    pub(super) fn copy<W: Word>(
        &mut self,
        memory: RingMemory<'_, W>,
        header: &RecordHeader,
        to: &mut BytesMut,
    ) {
        let length = usize::from(header.length);
        let start = to.len();
        to.put_bytes(0, length);
        let words = memory.words(self.tail, length);
        for (word, bytes) in words.iter().zip(to[start..].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        self.tail += length as u64;
    }

    /// Permits the writer to overwrite what has been read.
    pub(super) fn release<W: Word>(&self, memory: RingMemory<'_, W>) {
        memory.position[offset_of!(RingPosition, tail) / 8].store(self.tail, Ordering::Release);
    }
}
