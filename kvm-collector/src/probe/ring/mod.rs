//! Copies records out of the rings in batches, so that there is space again before anything is decoded.

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

/// Maximum size of a batch, so that busy rings do not keep the reader from its other work. It is also the size of the
/// buffer behind a batch.
pub const BATCH_BYTES: usize = 1 << 20;

/// Maximum time between two polls of the rings.
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// Minimum time between two polls of the rings.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// The rings in which events arrive, one per CPU. A CPU that was added to the machine later has none: all its records are lost, and
/// counted as lost.
#[derive(Debug)]
pub struct Rings {
    chunks: MappedArray<Chunk>,
    positions: MappedArray<RingPosition>,
    rings: Vec<RingReader>,
    /// Size of each ring.
    ring_bytes: usize,
    /// Time of the next record and CPU, for each ring that has records from before the latest poll. They are read in time
    /// order. Newer records may be older than these.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    buffer: BytesMut,
    latest_poll: Instant,
    pause: Duration,
    losses: LossTracker,
    tails: RecordTails,
}

impl Rings {
    /// Maps the rings, which have `ring_bytes` each.
    pub(super) fn open(
        ebpf: &Ebpf,
        events: &[Format],
        ring_bytes: u32,
    ) -> Result<Self, ProbeError> {
        let positions: MappedArray<RingPosition> = MappedArray::open(ebpf, "RING_POSITIONS")?;
        Ok(Self {
            losses: LossTracker::new(positions.len(), monotonic_ns()),
            chunks: MappedArray::open(ebpf, "RING_CHUNKS")?,
            rings: vec![RingReader::default(); positions.len()],
            ring_bytes: ring_bytes as usize,
            positions,
            next: BinaryHeap::new(),
            buffer: BytesMut::new(),
            latest_poll: Instant::now(),
            pause: MAX_PAUSE,
            tails: RecordTails::new(events),
        })
    }

    /// Returns the size of all rings in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK_BYTES) as u64
    }

    /// Waits until the next poll is due. Programs do not wake user space, because that would disturb the measurement.
    pub async fn ready(&mut self) {
        if self.next.is_empty() {
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Returns the records that have arrived. They are in time order, except for records that arrive meanwhile. The batch is
    /// empty if there are none. Its memory is reused when the batch and all its records are dropped.
    pub fn drain(&mut self) -> Batch {
        if self.next.is_empty() {
            self.poll();
        }
        if !self.next.is_empty() {
            self.buffer.reserve(BATCH_BYTES);
        }
        while self.buffer.len() + CHUNK_BYTES <= BATCH_BYTES
            && let Some(Reverse((_, cpu))) = self.next.pop()
        {
            let others_ns = self
                .next
                .peek()
                .map_or(u64::MAX, |Reverse((time_ns, _))| *time_ns);
            self.copy_records(cpu, others_ns);
        }
        Batch::new(self.buffer.split().freeze())
    }

    /// Takes the losses that were found since the latest call.
    ///
    /// Call it after each [`Rings::drain`] and before the batch is decoded: every loss before a record of the batch has been
    /// found by then. The count includes records that are not events (names of ended threads, slow exits).
    pub fn take_losses(&mut self) -> impl Iterator<Item = RingLoss> {
        self.losses.take()
    }

    /// Returns the start of the latest poll, in ns of `CLOCK_MONOTONIC`. All records that were stored before it have been
    /// read or are read next.
    #[must_use]
    pub fn latest_poll_ns(&self) -> u64 {
        self.losses.latest_poll_ns()
    }

    /// Polls the heads and the loss counters of all rings.
    fn poll(&mut self) {
        let start_ns = monotonic_ns();
        let mut max_waiting = 0;
        for cpu in 0..self.rings.len() {
            let memory = memory(&self.chunks, &self.positions, self.ring_bytes, cpu);
            max_waiting = max_waiting.max(self.rings[cpu].poll(memory));
        }
        // The counters are read after the heads. A program counts a loss before it publishes any later record, so all losses
        // before the records below these heads are seen now. If the counters were read first, a record could be read
        // before an older loss is known. Some losses after the heads may be seen early, which is harmless.
        let lost = |cpu| memory(&self.chunks, &self.positions, self.ring_bytes, cpu).lost();
        self.losses.update(start_ns, lost, monotonic_ns);
        for cpu in 0..self.rings.len() {
            if let Some(header) = self.next_record(cpu) {
                self.next.push(Reverse((header.time_ns, cpu)));
            }
        }
        // At the same rate, the fullest ring is a quarter full at the next poll.
        let elapsed_ns = self.latest_poll.elapsed().as_nanos();
        let pause_ns = elapsed_ns * (self.ring_bytes as u128 / 4) / u128::from(max_waiting.max(1));
        self.pause = u64::try_from(pause_ns)
            .map_or(MAX_PAUSE, Duration::from_nanos)
            .clamp(MIN_PAUSE, MAX_PAUSE);
        self.latest_poll = Instant::now();
    }

    /// Copies the records of a CPU up to a time, or until the batch is full.
    fn copy_records(&mut self, cpu: usize, until_ns: u64) {
        while let Some(header) = self.next_record(cpu) {
            let is_full = self.buffer.len() + CHUNK_BYTES > BATCH_BYTES;
            if header.time_ns > until_ns || is_full {
                self.next.push(Reverse((header.time_ns, cpu)));
                break;
            }
            let start = self.buffer.len();
            let memory = memory(&self.chunks, &self.positions, self.ring_bytes, cpu);
            self.rings[cpu].copy(memory, &header, &mut self.buffer);
            self.tails.clear(&header, &mut self.buffer[start..]);
        }
        let memory = memory(&self.chunks, &self.positions, self.ring_bytes, cpu);
        self.rings[cpu].release(memory);
    }

    /// Returns the header of a CPU's next record from before the latest poll.
    fn next_record(&mut self, cpu: usize) -> Option<RecordHeader> {
        let memory = memory(&self.chunks, &self.positions, self.ring_bytes, cpu);
        match self.rings[cpu].next(memory) {
            Next::Record(header) => Some(header),
            Next::None => None,
            Next::Damaged(bytes) => {
                log::warn!("the ring of CPU {cpu} is damaged: {bytes} bytes of it are ignored");
                self.rings[cpu].release(memory);
                None
            }
        }
    }
}

/// Returns the memory of a CPU's ring, without records if the CPU has none.
fn memory<'m>(
    chunks: &'m MappedArray<Chunk>,
    positions: &'m MappedArray<RingPosition>,
    ring_bytes: usize,
    cpu: usize,
) -> RingMemory<'m, AtomicU64> {
    let mut rings = chunks.words().chunks_exact(ring_bytes / 8);
    RingMemory {
        records: rings.nth(cpu).unwrap_or_default(),
        position: positions.value_words(cpu),
    }
}
