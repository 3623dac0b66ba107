//! Emptying the rings: records are copied out in batches, so that there is room again before anything is decoded.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    mem::offset_of,
    sync::atomic::{Ordering, fence},
    time::{Duration, Instant},
};

use aya::Ebpf;
use bytes::{BufMut as _, BytesMut};
use kvm_ebpf_common::{CHUNK_BYTES, Chunk, RECORD_HEADER_BYTES, RecordHeader, RingPosition};

use super::{ProbeError, mapped::Mapped};
use crate::{host::clock::monotonic_ns, model::Batch};

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
    chunks: Mapped<Chunk>,
    positions: Mapped<RingPosition>,
    rings: Vec<Ring>,
    /// Rings with something left of what was seen at the last look, by the time of their next record: what
    /// is read is in the order of time, but for what comes while it is read.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    buffer: BytesMut,
    looked: Instant,
    pause: Duration,
    losses: LossTracker,
}

/// How far a CPU's ring was written at the last look, and has been read.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    head: u64,
    tail: u64,
}

/// Records of one CPU that the eBPF programs could not put into its ring.
///
/// They were lost between two looks at the ring: a program counts a record as lost after the event, before any later
/// record of the CPU. So every record of this CPU, or of a thread that runs there, with an earlier time than `from_ns`
/// comes before them, and with a later time than `to_ns` after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLoss {
    /// The CPU.
    pub cpu: u32,
    /// How many records were lost.
    pub count: u64,
    /// `CLOCK_MONOTONIC` before the previous look, which did not see this loss yet.
    pub from_ns: u64,
    /// `CLOCK_MONOTONIC` after the look that saw it.
    pub to_ns: u64,
}

/// Compares how much every CPU has lost with what the look before saw.
#[derive(Debug)]
struct LossTracker {
    cpus: Vec<CpuLosses>,
    /// When the last look began.
    from_ns: u64,
}

/// What one CPU has lost.
#[derive(Debug, Clone, Copy, Default)]
struct CpuLosses {
    /// How much at the last look.
    seen: u64,
    /// What nobody has received yet. Losses of several looks become one, so that this takes no more memory when nobody
    /// receives them.
    found: Option<RingLoss>,
}

impl LossTracker {
    /// For so many CPUs, before any of them writes a record.
    fn new(cpus: usize, now_ns: u64) -> Self {
        Self {
            cpus: vec![CpuLosses::default(); cpus],
            from_ns: now_ns,
        }
    }

    /// Compares with a look that began at a time. `lost` reads how much a CPU has lost, `now_ns` the clock.
    fn look(&mut self, began_ns: u64, lost: impl Fn(usize) -> u64, now_ns: impl Fn() -> u64) {
        for (cpu, losses) in self.cpus.iter_mut().enumerate() {
            let lost = lost(cpu);
            if lost == losses.seen {
                continue;
            }
            let loss = losses.found.get_or_insert(RingLoss {
                cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
                count: 0,
                from_ns: self.from_ns,
                to_ns: 0,
            });
            loss.count += lost.wrapping_sub(losses.seen);
            loss.to_ns = now_ns();
            losses.seen = lost;
        }
        self.from_ns = began_ns;
    }

    fn take(&mut self) -> impl Iterator<Item = RingLoss> {
        self.cpus.iter_mut().filter_map(|it| it.found.take())
    }
}

impl Rings {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, ProbeError> {
        let positions: Mapped<RingPosition> = Mapped::of(ebpf, "RING_POSITIONS")?;
        Ok(Self {
            losses: LossTracker::new(positions.len(), monotonic_ns()),
            chunks: Mapped::of(ebpf, "RING_CHUNKS")?,
            rings: vec![Ring::default(); positions.len()],
            positions,
            next: BinaryHeap::new(),
            buffer: BytesMut::new(),
            looked: Instant::now(),
            pause: LONGEST_PAUSE,
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
        self.losses.from_ns
    }

    /// Looks how far all rings are written.
    fn look(&mut self) {
        let began_ns = monotonic_ns();
        let mut most_waiting = 0;
        for (cpu, ring) in self.rings.iter_mut().enumerate() {
            ring.head = self.positions.word(cpu, offset_of!(RingPosition, head));
            most_waiting = most_waiting.max(ring.head - ring.tail);
        }
        written_before();
        // After the heads: a program counts a loss before it publishes any later record, so what precedes a record below
        // one of these heads is seen now. Were this read before the heads, a record could be read first and the loss
        // before it only at the next look. A loss after the heads may be seen as well; then it is known early.
        let lost = |cpu| self.positions.word(cpu, offset_of!(RingPosition, lost));
        self.losses.look(began_ns, lost, monotonic_ns);
        for cpu in 0..self.rings.len() {
            if let Some(header) = self.next_of(cpu) {
                self.next.push(Reverse((header.time_ns, cpu)));
            }
        }
        // So that a ring is a quarter full at the next look.
        let ring_bytes = self.ring_chunks() * CHUNK_BYTES;
        let waited = self.looked.elapsed().as_nanos();
        let pause_ns = waited * (ring_bytes as u128 / 4) / u128::from(most_waiting.max(1));
        self.pause = u64::try_from(pause_ns)
            .map_or(LONGEST_PAUSE, Duration::from_nanos)
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.looked = Instant::now();
    }

    /// Of how many chunks a ring consists.
    fn ring_chunks(&self) -> usize {
        self.chunks.len() / self.rings.len().max(1)
    }

    /// Takes a CPU's records up to a time, or until the batch is full.
    fn take(&mut self, cpu: usize, until_ns: u64) {
        while let Some(header) = self.next_of(cpu) {
            let full = self.buffer.len() + CHUNK_BYTES > BATCH_BYTES;
            if header.time_ns > until_ns || full {
                self.next.push(Reverse((header.time_ns, cpu)));
                break;
            }
            let length = usize::from(header.length);
            let (chunk, place) = self.place(cpu);
            self.buffer.put_bytes(0, length);
            let start = self.buffer.len() - length;
            self.chunks.copy(chunk, place, &mut self.buffer[start..]);
            self.rings[cpu].tail += u64::from(header.length);
        }
        self.give_back(cpu);
    }

    /// What was read may be written over from here on.
    fn give_back(&self, cpu: usize) {
        fence(Ordering::Release);
        let tail = self.rings[cpu].tail;
        self.positions
            .set_word(cpu, offset_of!(RingPosition, tail), tail);
    }

    /// The header of a CPU's next record, if there is one of those seen at the last look.
    fn next_of(&mut self, cpu: usize) -> Option<RecordHeader> {
        loop {
            let ring = self.rings[cpu];
            let waiting = ring.head - ring.tail;
            if waiting == 0 {
                return None;
            }
            let (chunk, place) = self.place(cpu);
            let left = CHUNK_BYTES - place;
            if left >= RECORD_HEADER_BYTES {
                let header: RecordHeader = self.chunks.read_at(chunk, place);
                let length = usize::from(header.length);
                if length > left || u64::from(header.length) > waiting || !length.is_multiple_of(8)
                {
                    // Only damaged memory has this: nothing in it can be trusted.
                    log::warn!(
                        "the ring of CPU {cpu} is damaged: {waiting} bytes of it are left out"
                    );
                    self.rings[cpu].tail = ring.head;
                    self.give_back(cpu);
                    return None;
                }
                if length >= RECORD_HEADER_BYTES {
                    return Some(header);
                }
            }
            self.rings[cpu].tail += (left as u64).min(waiting);
        }
    }

    /// Where a CPU's next record is: the chunk, and the place in it.
    fn place(&self, cpu: usize) -> (usize, usize) {
        let tail = self.rings[cpu].tail;
        let chunks = self.ring_chunks();
        let chunk = (tail / CHUNK_BYTES as u64) % chunks as u64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the number of chunks, and their size"
        )]
        (
            cpu * chunks + chunk as usize,
            (tail % CHUNK_BYTES as u64) as usize,
        )
    }
}

/// After this, all is visible that a CPU wrote before it wrote what has just been read.
fn written_before() {
    fence(Ordering::Acquire);
    if cfg!(not(target_arch = "x86_64")) {
        const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
        // The kernel half has no barriers. This waits until all programs have ended that were running: on a
        // processor that keeps the order of writes, there is nothing to wait for.
        // SAFETY: a system call with numbers only.
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(losses: &mut LossTracker) -> Vec<(u32, u64, u64, u64)> {
        losses
            .take()
            .map(|it| (it.cpu, it.count, it.from_ns, it.to_ns))
            .collect()
    }

    #[test]
    fn a_loss_is_between_the_look_before_and_the_one_that_sees_it() {
        let mut losses = LossTracker::new(3, 100);
        losses.look(200, |_| 0, || 210);
        assert_eq!(found(&mut losses), []);
        losses.look(300, |cpu| [0, 5, 0][cpu], || 310);
        assert_eq!(found(&mut losses), [(1, 5, 200, 310)]);
        losses.look(400, |cpu| [1, 7, 0][cpu], || 410);
        assert_eq!(found(&mut losses), [(0, 1, 300, 410), (1, 2, 300, 410)]);
        losses.look(500, |cpu| [1, 7, 0][cpu], || 510);
        assert_eq!(found(&mut losses), []);
    }

    #[test]
    fn a_loss_before_the_first_look_is_since_the_rings_were_made() {
        let mut losses = LossTracker::new(1, 100);
        losses.look(200, |_| 1, || 210);
        assert_eq!(found(&mut losses), [(0, 1, 100, 210)]);
    }

    #[test]
    fn losses_that_nobody_receives_become_one() {
        let mut losses = LossTracker::new(1, 100);
        losses.look(200, |_| 1, || 210);
        losses.look(300, |_| 3, || 310);
        losses.look(400, |_| 3, || 410);
        assert_eq!(found(&mut losses), [(0, 3, 100, 310)]);
    }
}
