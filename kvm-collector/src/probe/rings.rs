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

use super::{Batch, ProbeError, mapped::Mapped};

/// A batch ends at this size, so that busy rings do not keep the reader from its other work.
const BATCH_BYTES: usize = 1 << 20;

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
}

/// How far a CPU's ring was written at the last look, and has been read.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    head: u64,
    tail: u64,
}

impl Rings {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, ProbeError> {
        let positions: Mapped<RingPosition> = Mapped::of(ebpf, "RING_POSITIONS")?;
        Ok(Self {
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

    /// Looks how far all rings are written.
    fn look(&mut self) {
        let mut most_waiting = 0;
        for (cpu, ring) in self.rings.iter_mut().enumerate() {
            ring.head = self.positions.word(cpu, offset_of!(RingPosition, head));
            most_waiting = most_waiting.max(ring.head - ring.tail);
        }
        written_before();
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
