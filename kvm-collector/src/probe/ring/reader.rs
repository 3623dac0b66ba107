//! One CPU's ring, as its reader sees it: positions and words, and nothing of the kernel.
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
    /// How many records the writer has lost.
    pub(super) fn lost(&self) -> u64 {
        self.position[offset_of!(RingPosition, lost) / 8].load(Ordering::Relaxed)
    }

    /// So many bytes of words at a position, which is counted in bytes since the beginning. They lie in one chunk.
    fn words(&self, position: u64, bytes: usize) -> &[W] {
        let words = self.records.len() as u64;
        let index = (position / 8 % words) as usize;
        &self.records[index..][..bytes / 8]
    }
}

/// What comes next in a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, as of the last look.
    None,
    /// A record.
    Record(RecordHeader),
    /// So many bytes that cannot be records. Only damaged memory has them; they are skipped.
    Damaged(u64),
}

/// How far a ring was written at the last look, and has been read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RingReader {
    head: u64,
    tail: u64,
}

impl RingReader {
    /// A reader that begins at a position.
    #[cfg(test)]
    pub(super) fn at(position: u64) -> Self {
        Self {
            head: position,
            tail: position,
        }
    }

    /// Looks how far the ring is written. Returns how many bytes there are to read.
    pub(super) fn look<W: Word>(&mut self, memory: RingMemory<'_, W>) -> u64 {
        self.head = memory.position[offset_of!(RingPosition, head) / 8].load(Ordering::Acquire);
        self.head.wrapping_sub(self.tail)
    }

    /// The next record of those seen at the last look.
    pub(super) fn next<W: Word>(&mut self, memory: RingMemory<'_, W>) -> Next {
        loop {
            let waiting = self.head.wrapping_sub(self.tail);
            if waiting == 0 {
                return Next::None;
            }
            // A record lies in one chunk.
            let left = CHUNK_BYTES as u64 - self.tail % CHUNK_BYTES as u64;
            if waiting > memory.records.len() as u64 * 8 || !self.tail.is_multiple_of(8) {
                return self.skip_damaged(waiting);
            }
            if left >= RECORD_HEADER_BYTES as u64 {
                let words = memory.words(self.tail, RECORD_HEADER_BYTES);
                let words = [&words[0], &words[1], &words[2]].map(|it| it.load(Ordering::Relaxed));
                let header: RecordHeader = zerocopy::transmute!(words);
                let length = u64::from(header.length);
                if length > left.min(waiting) || !length.is_multiple_of(8) {
                    return self.skip_damaged(waiting);
                }
                if length >= RECORD_HEADER_BYTES as u64 {
                    return Next::Record(header);
                }
            }
            // Nothing more in this chunk.
            self.tail += left.min(waiting);
        }
    }

    fn skip_damaged(&mut self, bytes: u64) -> Next {
        self.tail = self.head;
        Next::Damaged(bytes)
    }

    /// Copies the record that [`RingReader::next`] has returned, and goes on behind it.
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

    /// Lets the writer write over what has been read.
    pub(super) fn release<W: Word>(&self, memory: RingMemory<'_, W>) {
        memory.position[offset_of!(RingPosition, tail) / 8].store(self.tail, Ordering::Release);
    }
}
