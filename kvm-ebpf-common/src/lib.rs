//! The contract between the two halves of kvm-collector.
//!
//! Everything here is plain integers in `repr(C)` with the padding spelled out, in the byte order of
//! the machine both halves run on. The kernel half writes maps and records, user space writes the
//! settings before load, and nobody else writes anything. There is no logic beyond [`bucket_index`]
//! and no text at all: which events exist, where their fields lie and what a number is called is
//! read from the running kernel by user space.

#![no_std]

mod exit;
mod histogram;
mod record;
mod settings;
mod slot;

pub use exit::{ExitKey, ExitStats, PairingCounters, ThreadState, VCPU_UNKNOWN};
pub use histogram::{BUCKETS, Histogram, bucket_index, bucket_start};
pub use record::{
    COMM_BYTES, RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, RecordHeader, THREAD_END_SLOT,
};
pub use settings::{
    EXIT_SPAN_BYTES, FilterSettings, MAX_FILTER_IDS, NO_OFFSET, PairingSettings, ShipSettings,
    SlotSettings,
};
pub use slot::{MAX_SLOTS, SlotCounts, SlotTable, ThreadSlot};

/// Marks types as plain old data for aya, in user space only.
macro_rules! pod {
    ($($type:ty),* $(,)?) => {$(
        #[cfg(feature = "user")]
        // SAFETY: `repr(C)`, made of integers only, without implicit padding (asserted by size
        // beside each type), valid for every bit pattern.
        unsafe impl aya::Pod for $type {}
    )*};
}
pub(crate) use pod;
