//! Emptying the rings: records are copied out in batches, so that there is room again before anything is decoded.

mod losses;
mod reader;
mod tail;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use aya::Ebpf;
use bytes::BytesMut;
use kvm_ebpf_common::{CHUNK_BYTES, Chunk, RecordHeader, RingPosition};

use self::{
    losses::LossTracker,
    reader::{Next, RingMemory, RingReader},
    tail::RecordTails,
};
use super::{ProbeError, mapped::MappedArray};
use crate::{host::clock::monotonic_ns, model::Batch, tracefs::Format};

pub use losses::RingLoss;

/// A batch ends at this size, so that busy rings do not keep the reader from its other work. The buffer behind a batch
/// has this size as well.
pub const BATCH_BYTES: usize = 1 << 20;

/// How long records may wait when there are few.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Looking more often than this is no use.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The rings that shipped events arrive in, one for each CPU.
#[derive(Debug)]
pub struct Rings {
    chunks: MappedArray<Chunk>,
    positions: MappedArray<RingPosition>,
    rings: Vec<RingReader>,
    /// Rings with something left of what was seen at the last look, by the time of their next record: what
    /// is read is in the order of time, but for what comes while it is read.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    buffer: BytesMut,
    looked: Instant,
    pause: Duration,
    losses: LossTracker,
    tails: RecordTails,
}

impl Rings {
    pub(super) fn of(ebpf: &Ebpf, events: &[Format]) -> Result<Self, ProbeError> {
        let positions: MappedArray<RingPosition> = MappedArray::open(ebpf, "RING_POSITIONS")?;
        Ok(Self {
            losses: LossTracker::new(positions.len(), monotonic_ns()),
            chunks: MappedArray::open(ebpf, "RING_CHUNKS")?,
            rings: vec![RingReader::default(); positions.len()],
            positions,
            next: BinaryHeap::new(),
            buffer: BytesMut::new(),
            looked: Instant::now(),
            pause: LONGEST_PAUSE,
            tails: RecordTails::of(events),
        })
    }

    /// What they take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK_BYTES) as u64
    }

    /// Waits until there may be something to read. The kernel half wakes nobody: that would be a part of what it
    /// measures.
    pub async fn ready(&mut self) {
        if self.next.is_empty() {
            tokio::time::sleep(self.pause).await;
        }
    }

    /// What has arrived, in the order of time but for what arrives meanwhile; an empty batch when there is
    /// nothing. The memory is used again once the batch and all its records are dropped.
    pub fn drain(&mut self) -> Batch {
        if self.next.is_empty() {
            self.look();
        }
        if !self.next.is_empty() {
            self.buffer.reserve(BATCH_BYTES);
        }
        while self.buffer.len() + CHUNK_BYTES <= BATCH_BYTES
            && let Some(Reverse((_, cpu))) = self.next.pop()
        {
            let others_ns = self.next.peek().map_or(u64::MAX, |it| it.0.0);
            self.take(cpu, others_ns);
        }
        Batch::new(self.buffer.split().freeze())
    }

    /// The losses that were found since the last call.
    ///
    /// Call it after each [`Rings::drain`], before the batch is read: every loss that precedes a record of the batch has
    /// been found by then. The number includes records that are no events (names of ended threads, slow exits).
    pub fn take_losses(&mut self) -> impl Iterator<Item = RingLoss> {
        self.losses.take()
    }

    /// When the last look at the rings began, `CLOCK_MONOTONIC`: all records that were stored before have been read, or
    /// are the next to be read.
    #[must_use]
    pub fn looked_ns(&self) -> u64 {
        self.losses.looked_ns()
    }

    /// Looks how far all rings are written.
    fn look(&mut self) {
        let began_ns = monotonic_ns();
        let mut most_waiting = 0;
        for cpu in 0..self.rings.len() {
            let memory = memory(&self.chunks, &self.positions, cpu);
            most_waiting = most_waiting.max(self.rings[cpu].look(memory));
        }
        // After the heads: a program counts a loss before it publishes any later record, so what precedes a record below
        // one of these heads is seen now. Were this read before the heads, a record could be read first and the loss
        // before it only at the next look. A loss after the heads may be seen as well; then it is known early.
        let lost = |cpu| memory(&self.chunks, &self.positions, cpu).lost();
        self.losses.look(began_ns, lost, monotonic_ns);
        for cpu in 0..self.rings.len() {
            if let Some(header) = self.next_of(cpu) {
                self.next.push(Reverse((header.time_ns, cpu)));
            }
        }
        // So that a ring is a quarter full at the next look.
        let ring_bytes = self.chunks.len() / self.rings.len().max(1) * CHUNK_BYTES;
        let waited = self.looked.elapsed().as_nanos();
        let pause_ns = waited * (ring_bytes as u128 / 4) / u128::from(most_waiting.max(1));
        self.pause = u64::try_from(pause_ns)
            .map_or(LONGEST_PAUSE, Duration::from_nanos)
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.looked = Instant::now();
    }

    /// Takes a CPU's records up to a time, or until the batch is full.
    fn take(&mut self, cpu: usize, until_ns: u64) {
        while let Some(header) = self.next_of(cpu) {
            let full = self.buffer.len() + CHUNK_BYTES > BATCH_BYTES;
            if header.time_ns > until_ns || full {
                self.next.push(Reverse((header.time_ns, cpu)));
                break;
            }
            let start = self.buffer.len();
            let memory = memory(&self.chunks, &self.positions, cpu);
            self.rings[cpu].copy(memory, &header, &mut self.buffer);
            self.tails.clear(&header, &mut self.buffer[start..]);
        }
        self.rings[cpu].release(memory(&self.chunks, &self.positions, cpu));
    }

    /// The header of a CPU's next record, if there is one of those seen at the last look.
    fn next_of(&mut self, cpu: usize) -> Option<RecordHeader> {
        let memory = memory(&self.chunks, &self.positions, cpu);
        match self.rings[cpu].next(memory) {
            Next::Record(header) => Some(header),
            Next::None => None,
            Next::Damaged(bytes) => {
                log::warn!("the ring of CPU {cpu} is damaged: {bytes} bytes of it are left out");
                self.rings[cpu].release(memory);
                None
            }
        }
    }
}

/// The memory of a CPU's ring.
fn memory<'m>(
    chunks: &'m MappedArray<Chunk>,
    positions: &'m MappedArray<RingPosition>,
    cpu: usize,
) -> RingMemory<'m, AtomicU64> {
    let words = chunks.words();
    let ring_words = words.len() / positions.len();
    RingMemory {
        records: &words[cpu * ring_words..][..ring_words],
        position: positions.value_words(cpu),
    }
}
