//! The contract between the two halves of kvm-collector.
//!
//! Everything here is plain integers in `repr(C)` with the padding spelled out, in the byte order of
//! the machine both halves run on. The kernel half writes maps and records, user space writes the
//! settings before load, and nobody else writes anything. There is no text at all, and of logic only
//! what both halves have to do alike: which events are selected ([`decide`]), in which bucket a duration is
//! ([`bucket_index`]), how events become times ([`VcpuClock`]) and times become statistics ([`ExitStats::add`],
//! [`CauseTable::add`]), and when a vCPU has moved to another thread ([`turn`]).
//! Which events exist, where their fields lie and what a number is called is read from the running
//! kernel by user space.

#![no_std]

mod cause;
mod clock;
mod exit;
mod field;
mod histogram;
mod key;
mod notice;
mod pod;
mod record;
mod selection;
mod settings;
mod slot;
mod turn;

pub use cause::{CAUSES, Cause, CauseTable};
pub use clock::{Parts, Span, VcpuClock, is_time, is_waiting};
pub use exit::{
    ExitStats, Extremes, NEAR_ROWS, NearRow, PairingCounters, Row, RowKey, VCPU_UNKNOWN,
    VcpuThread, near_row,
};
pub use field::{FIELDS, FieldId, FieldPlace};
pub use histogram::{BUCKETS, Histogram, STEPS, bucket_index, bucket_start};
pub use key::Key;
pub use notice::{
    NOTICE_COUNTED_THREAD, NOTICE_COUNTED_THREAD_ENDED, NOTICE_VCPU_THREAD,
    NOTICE_VCPU_THREAD_ENDED, ThreadNotice,
};
pub use record::{
    CHUNK_BYTES, COMM_BYTES, COMMON_BYTES, Chunk, MOST_COPIED_BYTES, RECORD_HEADER_BYTES,
    RECORD_RAW_OFFSET, RecordHeader, RingPosition, SLOW_EXIT_SLOT, SlowExit, THREAD_END_SLOT,
};
pub use selection::{Decision, Selection, VcpuThreadId, decide, decide_task, decide_vcpu, subject};
pub use settings::{
    DetailSettings, FilterSettings, MAX_DETAILS, MAX_FILTER_IDS, NO_CLASS, NO_OFFSET, NO_SLOT,
    PairingSettings, RIP_CAUSE, ShipSettings, SlotSettings,
};
pub use slot::{CountedThread, MAX_SLOTS, SlotCounts, SlotTable, tgid_of, tid_of};
pub use turn::{Turn, turn, turn_slot};
