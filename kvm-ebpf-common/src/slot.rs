//! Event counters per slot. A slot is the number of a selected event. A tracepoint program cannot
//! identify its event, so each slot has a program of its own.

/// Maximum number of selected events. Linux 6.18 on x86 has 99 kvm and kvmmmu events.
pub const MAX_SLOTS: usize = 128;

/// Counters of one slot on one CPU.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Events that passed the filters.
    pub seen: u64,
    /// Events that passed the filters but did not fit into a ring or into the tables of threads.
    pub lost: u64,
    /// Events that were skipped because the filter lists vCPUs and the vCPU of the thread is unknown.
    pub unattributed: u64,
}

/// Counters of all slots on one CPU.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug)]
pub struct SlotTable {
    /// Counters, indexed by slot.
    pub slots: [SlotCounts; MAX_SLOTS],
}

/// A thread with event counters of its own (`stat --per-vm`): any thread that caused an event, also a
/// VMM thread that runs no vCPU.
///
/// The counters are in another map (`THREAD_COUNTS`): entry `i` owns the `i`-th group of counters, with
/// one counter per used slot.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedThread {
    /// `tgid << 32 | tid`. Programs compare it with the current thread.
    pub task: u64,
    /// The same for user space; 0 if the entry is free.
    pub owner: u64,
    /// 1 if the thread has ended. It may still cause events until it no longer exists.
    pub ended: u64,
}

impl CountedThread {
    /// Returns the process id.
    #[must_use]
    pub const fn tgid(&self) -> u32 {
        tgid_of(self.owner)
    }

    /// Returns the thread id.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        tid_of(self.owner)
    }
}

/// Returns the process id of `tgid << 32 | tid`, the value of `bpf_get_current_pid_tgid`.
#[inline(always)]
#[must_use]
pub const fn tgid_of(task: u64) -> u32 {
    (task >> 32) as u32
}

/// Returns the thread id of `tgid << 32 | tid`.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "two u32 in one u64")]
pub const fn tid_of(task: u64) -> u32 {
    task as u32
}

const _: () = assert!(size_of::<SlotCounts>() == 24);
const _: () = assert!(size_of::<SlotTable>() == 24 * MAX_SLOTS);
const _: () = assert!(size_of::<CountedThread>() == 24);

crate::pod::pod!(SlotCounts, SlotTable, CountedThread);
