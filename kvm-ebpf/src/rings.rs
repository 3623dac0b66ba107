//! A ring of memory for each CPU, in which records lie until user space has taken them.
//!
//! A CPU writes to its own ring only: no lock is taken, and no memory that another CPU writes to is touched. (The
//! kernel's own ring buffer is one for all of them, and takes a lock for each record.) User space looks by
//! itself; waking it would cost a guest more than its events do.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use kvm_ebpf_common::{CHUNK_BYTES, RECORD_HEADER_BYTES, RingPosition};

use crate::{
    maps::{RING_CHUNKS, RING_POSITIONS},
    publish, settings,
};

const CHUNK: u64 = CHUNK_BYTES as u64;

/// Room for one record, in this CPU's ring. Who has it must publish it.
pub(crate) struct Room {
    pub(crate) to: *mut u8,
    /// Whose ring it is in.
    pub(crate) cpu: u32,
    position: *mut RingPosition,
    end: u64,
}

impl Room {
    /// Room for a record of so many bytes, a multiple of 8 and no more than a chunk has; `None` when the ring has
    /// none.
    #[inline(always)]
    pub(crate) fn reserve(bytes: usize) -> Option<Self> {
        let bytes = bytes as u64;
        // SAFETY: a helper without arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        let position = RING_POSITIONS.get_ptr_mut(cpu)?;
        // SAFETY: the map's value, of which only user space writes `tail`, and this CPU the rest.
        unsafe {
            // An event in an interrupt that came while another one's record is written.
            if read_volatile(&raw const (*position).busy) != 0 {
                count_lost(position);
                return None;
            }
            // An interrupt between the check and this store may have moved `head`: it is read only after this.
            write_volatile(&raw mut (*position).busy, 1);
        }
        let room = Self::at_head(cpu, position, bytes);
        if room.is_none() {
            // SAFETY: as above.
            unsafe {
                write_volatile(&raw mut (*position).busy, 0);
                count_lost(position);
            }
        }
        room
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a place in a chunk")]
    fn at_head(cpu: u32, position: *mut RingPosition, bytes: u64) -> Option<Self> {
        // SAFETY: as in `reserve`.
        let (head, tail) = unsafe {
            (
                read_volatile(&raw const (*position).head),
                read_volatile(&raw const (*position).tail),
            )
        };
        let mut at = head;
        let mut place = head % CHUNK;
        // A record lies in one chunk; what is left of another is passed over.
        let passed_over = place > CHUNK - bytes;
        if passed_over {
            at += CHUNK - place;
            place = 0;
        }
        if at + bytes - tail > 1 << settings::ring_shift() {
            return None;
        }
        if passed_over {
            pass_over(cpu, head);
        }
        let chunk = RING_CHUNKS.get_ptr_mut(chunk_of(cpu, at))?;
        // SAFETY: a local number. The verifier must see the bound of this very copy, and directly before it is used: what is
        // known of a number is not known of its copies on the stack (Linux 6.1).
        let place = unsafe { read_volatile(&raw const place) };
        if place > CHUNK - bytes {
            return None;
        }
        Some(Self {
            // SAFETY: in the chunk, as are the bytes behind it.
            to: unsafe { chunk.cast::<u8>().add(place as usize) },
            cpu,
            position,
            end: at + bytes,
        })
    }

    /// Gives the record to user space.
    #[inline(always)]
    pub(crate) fn publish(self) {
        // SAFETY: as in `reserve`.
        unsafe {
            publish::store_release(&raw mut (*self.position).head, self.end);
            write_volatile(&raw mut (*self.position).busy, 0);
        }
    }
}

/// Counts a record that could not be reserved, so that user space learns in which ring and when records were lost.
///
/// It is added to in one instruction, since an interrupt may lose a record as well.
///
/// # Safety
/// The position is this CPU's.
#[inline(always)]
unsafe fn count_lost(position: *mut RingPosition) {
    // SAFETY: in a map's value; user space only reads this word.
    unsafe { publish::add(&raw mut (*position).lost, 1) };
}

/// The chunk of a CPU's ring that a position is in.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are fewer than 2^32 chunks"
)]
fn chunk_of(cpu: u32, position: u64) -> u32 {
    let shift = settings::ring_shift() - CHUNK_BYTES.ilog2();
    let chunk = (position / CHUNK) as u32 & ((1 << shift) - 1);
    cpu << shift | chunk
}

/// Says in the place of a record that there is none: a length of 0.
#[inline(never)]
fn pass_over(cpu: u32, position: u64) {
    let place = position % CHUNK;
    // User space knows that no record is as short as what is left otherwise.
    if place <= CHUNK - RECORD_HEADER_BYTES as u64
        && let Some(chunk) = RING_CHUNKS.get_ptr_mut(chunk_of(cpu, position))
    {
        // SAFETY: in the chunk. The length is in the second word.
        unsafe { write_volatile(chunk.cast::<u8>().add(place as usize + 8).cast::<u64>(), 0) };
    }
}
