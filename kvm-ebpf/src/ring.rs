//! Per-CPU rings, through which programs pass records to user space.
//!
//! A CPU writes only to its own ring, so it takes no lock and shares no memory with other CPUs. (The
//! kernel's BPF ring buffer is shared by all CPUs and takes a lock for each record.) User space polls
//! the rings. Waking it would slow the guest down more than the events themselves.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::{CHUNK_BYTES, RECORD_HEADER_BYTES, RingPosition};

use crate::{
    atomics,
    maps::{RING_CHUNKS, RING_POSITIONS},
    settings,
};

const CHUNK: u64 = CHUNK_BYTES as u64;

/// Reserved space for one record in the current CPU's ring.
///
/// The caller writes the record to `data` and must then call [`submit`](Self::submit).
pub(crate) struct ReservedRecord {
    pub(crate) data: *mut u8,
    /// Number of the current CPU.
    pub(crate) cpu: u32,
    position: *mut RingPosition,
    /// Position of the end of the record.
    end: u64,
}

impl ReservedRecord {
    /// Reserves space for a record of `bytes` bytes: a multiple of 8, at most [`CHUNK_BYTES`]. `None` if
    /// the ring is full or busy; then the record is counted as lost.
    #[inline(always)]
    pub(crate) fn reserve(bytes: usize) -> Option<Self> {
        let bytes = bytes as u64;
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        let position = RING_POSITIONS.get_ptr_mut(cpu)?;
        // SAFETY: the value of the map. User space writes only `tail`; only this CPU writes the rest.
        unsafe {
            // This event occurred in an interrupt while the record of another event is written.
            if read_volatile(&raw const (*position).busy) != 0 {
                count_lost(position);
                return None;
            }
            // Read `head` only after this store: an interrupt before it may move `head`.
            write_volatile(&raw mut (*position).busy, 1);
        }
        let reserved = Self::reserve_at_head(cpu, position, bytes);
        if reserved.is_none() {
            // SAFETY: as above.
            unsafe {
                write_volatile(&raw mut (*position).busy, 0);
                count_lost(position);
            }
        }
        reserved
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "an offset in a chunk")]
    fn reserve_at_head(cpu: u32, position: *mut RingPosition, bytes: u64) -> Option<Self> {
        // SAFETY: as in `reserve`.
        let (head, tail) = unsafe {
            (
                read_volatile(&raw const (*position).head),
                read_volatile(&raw const (*position).tail),
            )
        };
        let mut start = head;
        let mut offset = head % CHUNK;
        // A record does not cross the end of a chunk. If it does not fit, the rest of the chunk is
        // skipped.
        let skips_rest = offset > CHUNK - bytes;
        if skips_rest {
            start += CHUNK - offset;
            offset = 0;
        }
        if start + bytes - tail > 1 << settings::ring_shift() {
            return None;
        }
        if skips_rest {
            mark_rest_unused(cpu, head);
        }
        let chunk = RING_CHUNKS.get_ptr_mut(chunk_index(cpu, start))?;
        // SAFETY: a local variable. The verifier of Linux 6.1 does not transfer a known bound to
        // copies on the stack. So it needs a check of this copy, directly before its use.
        let offset = unsafe { read_volatile(&raw const offset) };
        if offset > CHUNK - bytes {
            return None;
        }
        Some(Self {
            // SAFETY: the record is within the chunk.
            data: unsafe { chunk.cast::<u8>().add(offset as usize) },
            cpu,
            position,
            end: start + bytes,
        })
    }

    /// Makes the record visible to user space.
    #[inline(always)]
    pub(crate) fn submit(self) {
        // SAFETY: as in `reserve`.
        unsafe {
            atomics::store_release(&raw mut (*self.position).head, self.end);
            write_volatile(&raw mut (*self.position).busy, 0);
        }
    }
}

/// Counts a lost record. The addition is atomic, because an interrupt may also lose one.
///
/// # Safety
/// `position` is that of the current CPU.
#[inline(always)]
unsafe fn count_lost(position: *mut RingPosition) {
    // SAFETY: in the value of the map. User space only reads this field.
    unsafe { atomics::add(&raw mut (*position).lost, 1) };
}

/// Returns the index in `RING_CHUNKS` of the chunk at a position of a CPU's ring.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer than 2^32 chunks"
)]
fn chunk_index(cpu: u32, position: u64) -> u32 {
    let shift = settings::ring_shift() - CHUNK_BYTES.ilog2();
    let chunk = (position / CHUNK) as u32 & ((1 << shift) - 1);
    cpu << shift | chunk
}

/// Marks the rest of a chunk as unused, by a header with length 0.
#[inline(never)]
fn mark_rest_unused(cpu: u32, position: u64) {
    let offset = position % CHUNK;
    // If a header does not fit, user space knows that the rest is unused.
    if offset <= CHUNK - RECORD_HEADER_BYTES as u64
        && let Some(chunk) = RING_CHUNKS.get_ptr_mut(chunk_index(cpu, position))
    {
        // SAFETY: within the chunk. The length is in the second word of the header.
        unsafe {
            write_volatile(chunk.cast::<u8>().add(offset as usize + 8).cast::<u64>(), 0);
        }
    }
}
