//! Data layouts and rules that the eBPF programs and user space share.
//!
//! All types are `repr(C)`, made of integers in native byte order, and have explicit padding. The
//! programs write maps and records. User space writes the settings before it loads the programs.
//!
//! The only logic here is what both sides must do in the same way:
//! - which events are selected: [`decide`];
//! - how events become times: [`VcpuClock`];
//! - how times become statistics: [`ExitStats::add`], [`CauseTable::add`], [`bucket_index`];
//! - whether a vCPU has moved to another thread: [`classify_index_reuse`];
//! - which vCPU a thread's name tells: [`vcpu_index_in_comm`].
//!
//! There are no event names, field offsets or names of numbers here. User space reads them from the
//! running kernel.

#![no_std]

mod cause;
mod clock;
mod exit_stats;
mod field;
mod histogram;
mod key;
mod notification;
mod pod;
mod record;
mod row;
mod selection;
mod settings;
mod slot;
mod timing_counters;
mod vcpu_index_reuse;
mod vcpu_name;
mod vcpu_thread;

pub use cause::{CAUSES_PER_ROW, Cause, CauseTable};
pub use clock::{Span, SpanBreakdown, VcpuClock, is_valid_time, is_waiting};
pub use exit_stats::{ExitStats, Extremes};
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
pub use row::{CachedRow, ROW_CACHE_ENTRIES, Row, RowKey, row_cache_index};
pub use selection::{
    Decision, Selection, VcpuThreadId, decide, decide_vcpu, is_task_selected, select_vcpu_thread,
};
pub use settings::{
    DetailSettings, FilterSettings, GUEST_RIP_KIND, GeneralSettings, MAX_DETAILS, MAX_FILTER_IDS,
    NO_OFFSET, NO_SLOT, NO_SUBCODE, SlotSettings, TimingSettings,
};
pub use slot::{CountedThread, MAX_SLOTS, SlotCounts, SlotTable, tgid_of, tid_of};
pub use timing_counters::TimingCounters;
pub use vcpu_index_reuse::{
    VCPU_RAN_IN_OTHER_THREAD, VCPU_WAS_REPLACED, VcpuIndexReuse, classify_index_reuse,
    last_thread_index,
};
pub use vcpu_name::{vcpu_index_in_comm, vcpu_index_in_name};
pub use vcpu_thread::{VCPU_UNKNOWN, VcpuThread};
