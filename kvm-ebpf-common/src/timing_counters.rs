//! Counters of exits and notifications that could not be recorded completely.

/// Counters of incomplete data on one CPU.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimingCounters {
    /// Exits that were followed by another exit of the thread without an entry. They have no
    /// duration.
    pub unmatched: u64,
    /// Exits that were not counted because no row was free.
    pub rows_full: u64,
    /// Exits that were not counted because no thread entry was free.
    pub threads_full: u64,
    /// Exits that were skipped because the filter lists vCPUs and the vCPU of the thread is unknown.
    pub unattributed: u64,
    /// Slow exits that were counted, but not reported, because their record did not fit into a ring.
    pub slow_lost: u64,
    /// Exits without a duration, because the vCPU moved: another thread ran it before the next entry
    /// of this one. They are not in `unmatched`.
    pub moved: u64,
    /// Events that were not counted because they interrupted a program that was changing the state of
    /// the same thread.
    pub interrupted: u64,
    /// Thread notifications that did not fit into the buffer. User space then searches the tables.
    pub notifications_lost: u64,
}

const _: () = assert!(size_of::<TimingCounters>() == 64);

crate::pod::pod!(TimingCounters);
