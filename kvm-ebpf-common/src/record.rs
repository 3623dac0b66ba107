//! What travels through the rings: a header and the tracepoint's raw record.

use crate::{Key, Span};

/// Goes before each raw record.
///
/// Its last eight bytes stand where ftrace's common fields stand (`common_type`, `common_flags`,
/// `common_preempt_count`, `common_pid`), so that the bytes from [`RECORD_RAW_OFFSET`] on *are* the
/// raw record, with every field at the offset the event's format file gives. A tracepoint program
/// cannot read the kernel's own common fields; `common_flags` and `common_preempt_count` are
/// therefore not known, and the slot stands in their two bytes.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// `CLOCK_MONOTONIC`, in ns.
    pub time_ns: u64,
    /// The process.
    pub tgid: u32,
    /// The CPU the event happened on.
    pub cpu: u16,
    /// The whole record's length in bytes, this header included.
    pub length: u16,
    /// The event's id, as in its format file (`common_type`).
    pub event_id: u16,
    /// The event's slot (in the place of `common_flags` and `common_preempt_count`).
    pub slot: u16,
    /// The thread (`common_pid`).
    pub tid: u32,
}

/// The slot of a record that is no event, but says that a thread has ended: behind the header comes
/// its name (`comm`), [`COMM_BYTES`] long and filled up with zeros. User space asks for names late, and
/// a thread that has ended can no longer be asked.
pub const THREAD_END_SLOT: u16 = u16::MAX;

/// The slot of a record that is no event, but a [`SlowExit`].
pub const SLOW_EXIT_SLOT: u16 = u16::MAX - 1;

/// An exit (a [`Span`]) that took longer than asked for. It ended at the header's time.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowExit {
    /// Whose, and when it ended.
    pub header: RecordHeader,
    /// What it is counted under, and how long it took.
    pub span: Span,
    /// What it was about, as far as is known; kind 0 if it is not.
    pub cause: Key,
    /// Where the guest was when it was left; 0 where the kernel does not say.
    pub guest_rip: u64,
    /// The vCPU, or [`VCPU_UNKNOWN`](crate::VCPU_UNKNOWN).
    pub vcpu: u32,
    /// So that there is no padding.
    pub padding: u32,
}

/// Where the next record goes in a CPU's ring, and how far it has been read. The ring is as many chunks as its size
/// takes; positions count bytes from the beginning of time.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPosition {
    /// What comes before has been written.
    pub head: u64,
    /// 1 while a record is written: what happens on the CPU meanwhile is lost.
    pub busy: u64,
    /// How many records were lost: the ring was full, or the event interrupted another one's record.
    pub lost: u64,
    /// So that kernel and user space write to different cache lines.
    pub padding: [u64; 5],
    /// What comes before has been read, by user space.
    pub tail: u64,
    /// See above.
    pub end_padding: [u64; 7],
}

/// Rings consist of chunks of so many bytes. A record lies in one chunk, and is no longer. Where the next one had no
/// room, a header's length is 0, or there is no room for a header.
pub const CHUNK_BYTES: usize = 4096;

/// A piece of a ring.
pub type Chunk = [u8; CHUNK_BYTES];

/// The common fields at the start of each of the kernel's records, which its programs do not get to see.
pub const COMMON_FIELDS_BYTES: usize = 8;

/// Records with more bytes than this behind the common ones are copied by a helper.
pub const MAX_COPIED_BYTES: usize = 128;

/// `TASK_COMM_LEN` (include/linux/sched.h).
pub const COMM_BYTES: usize = 16;

/// Bytes of a [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();

/// Where the raw record begins, counted from the header's first byte.
pub const RECORD_RAW_OFFSET: usize = core::mem::offset_of!(RecordHeader, event_id);

const _: () = assert!(RECORD_HEADER_BYTES == 24);
const _: () = assert!(RECORD_RAW_OFFSET == 16);
const _: () = assert!(size_of::<SlowExit>() == 24 + 48 + 16 + 16);
const _: () = assert!(size_of::<RingPosition>() == 128);
const _: () = assert!(core::mem::offset_of!(RingPosition, tail) == 64);

crate::pod::pod!(RecordHeader, RingPosition, SlowExit);
