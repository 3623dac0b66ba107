//! Records in the per-CPU rings: a header, followed by the raw record of the tracepoint.

use crate::{Key, Span};

/// Header of each record.
///
/// Its last eight bytes replace ftrace's common fields (`common_type`, `common_flags`,
/// `common_preempt_count`, `common_pid`). The bytes from [`RECORD_RAW_OFFSET`] on are therefore a
/// complete raw record, with every field at the offset that the format file gives. A tracepoint
/// program cannot read the common fields, so `common_flags` and `common_preempt_count` are unknown.
/// Their two bytes hold the slot.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// Time of the event, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Process id.
    pub tgid: u32,
    /// CPU on which the event occurred.
    pub cpu: u16,
    /// Length of the record in bytes, including this header.
    pub length: u16,
    /// Id of the event, as in its format file (`common_type`).
    pub event_id: u16,
    /// Slot of the event, in the bytes of `common_flags` and `common_preempt_count`.
    pub slot: u16,
    /// Thread id (`common_pid`).
    pub tid: u32,
}

/// Slot of a record that reports the end of a thread instead of an event.
///
/// The header is followed by the thread's name, in [`COMM_BYTES`] bytes padded with zeros. User space
/// reads names with a delay, when `/proc` may no longer have the thread.
pub const THREAD_END_SLOT: u16 = u16::MAX;

/// Slot of a record that is a [`SlowExit`] instead of an event.
pub const SLOW_EXIT_SLOT: u16 = u16::MAX - 1;

/// Record of a span that was longer than [`TimingSettings::slow_ns`](crate::TimingSettings::slow_ns).
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowExit {
    /// Header with the thread, and with the end of the span as its time.
    pub header: RecordHeader,
    /// The slow span.
    pub span: Span,
    /// Cause of the exit. Its kind is 0 if no cause is known.
    pub cause: Key,
    /// Instruction pointer of the guest at the exit; 0 if the kernel does not report it.
    pub guest_rip: u64,
    /// Index of the vCPU, or [`VCPU_UNKNOWN`](crate::VCPU_UNKNOWN).
    pub vcpu: u32,
    /// Explicit padding.
    pub padding: u32,
}

/// Write and read positions of a CPU's ring, which is an array of chunks.
///
/// Positions count bytes since the start of the measurement. They do not wrap at the end of the ring.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPosition {
    /// Write position: all bytes before it have been written.
    pub head: u64,
    /// 1 while a program writes a record. Events that interrupt it on this CPU are lost.
    pub busy: u64,
    /// Number of lost records: the ring was full or busy.
    pub lost: u64,
    /// Padding, so that the kernel and user space write to different cache lines.
    pub padding: [u64; 5],
    /// Read position: user space has read all bytes before it.
    pub tail: u64,
    /// Padding to the end of the cache line.
    pub end_padding: [u64; 7],
}

/// Size of a chunk. A record does not cross the end of a chunk.
///
/// If the next record did not fit into the rest of a chunk, the rest starts with a header of length
/// 0, or is shorter than a header.
pub const CHUNK_BYTES: usize = 4096;

/// Part of a ring.
pub type Chunk = [u8; CHUNK_BYTES];

/// Size of the common fields at the start of each raw record, which programs cannot read.
pub const COMMON_FIELDS_BYTES: usize = 8;

/// Maximum number of bytes after the common fields that a program copies word by word. Longer records
/// are copied by `bpf_probe_read_kernel`.
pub const MAX_COPIED_BYTES: usize = 128;

/// Size of a thread name: `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_BYTES: usize = 16;

/// Size of a [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();

/// Offset of the raw record from the start of the header.
pub const RECORD_RAW_OFFSET: usize = core::mem::offset_of!(RecordHeader, event_id);

const _: () = assert!(RECORD_HEADER_BYTES == 24);
const _: () = assert!(RECORD_RAW_OFFSET == 16);
const _: () = assert!(size_of::<SlowExit>() == 24 + 48 + 16 + 16);
const _: () = assert!(size_of::<RingPosition>() == 128);
const _: () = assert!(core::mem::offset_of!(RingPosition, tail) == 64);

crate::pod::pod!(RecordHeader, RingPosition, SlowExit);
