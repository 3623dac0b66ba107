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
mod notification;
mod pod;
mod record;
mod selection;
mod settings;
mod slot;
mod vcpu_index_reuse;

pub use cause::{CAUSES_PER_ROW, Cause, CauseTable};
pub use clock::{Span, SpanBreakdown, VcpuClock, is_valid_time, is_waiting};
pub use exit::{
    CachedRow, ExitStats, Extremes, ROW_CACHE_ENTRIES, Row, RowKey, TimingCounters, VCPU_UNKNOWN,
    VcpuThread, row_cache_index,
};
pub use field::{FIELD_COUNT, FieldId, FieldLocation};
pub use histogram::{BUCKETS, BUCKETS_PER_OCTAVE, Histogram, bucket_index, bucket_start};
pub use key::Key;
pub use notification::{
    COUNTED_THREAD_ADDED, COUNTED_THREAD_ENDED, ThreadNotification, VCPU_THREAD_ADDED,
    VCPU_THREAD_ENDED,
};
pub use record::{
    CHUNK_BYTES, COMM_BYTES, COMMON_FIELDS_BYTES, Chunk, MAX_COPIED_BYTES, RECORD_HEADER_BYTES,
    RECORD_RAW_OFFSET, RecordHeader, RingPosition, SLOW_EXIT_SLOT, SlowExit, THREAD_END_SLOT,
};
pub use selection::{
    Decision, Selection, VcpuThreadId, decide, decide_vcpu, is_task_selected, select_vcpu_thread,
};
pub use settings::{
    DetailSettings, FilterSettings, GUEST_RIP_KIND, GeneralSettings, MAX_DETAILS, MAX_FILTER_IDS,
    NO_OFFSET, NO_SLOT, NO_SUBCODE, SlotSettings, TimingSettings,
};
pub use slot::{CountedThread, MAX_SLOTS, SlotCounts, SlotTable, tgid_of, tid_of};
pub use vcpu_index_reuse::{VcpuIndexReuse, classify_index_reuse, last_thread_index};
