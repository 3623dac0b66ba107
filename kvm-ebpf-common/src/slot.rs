//! Slots: a tracepoint program cannot tell which event it runs for, so each event gets a program of
//! its own, and a number, its slot.

/// How many events can be watched at once. Linux 6.18 on x86 has 99 kvm and kvmmmu events.
pub const MAX_SLOTS: usize = 128;

/// What one CPU has seen of one slot.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Events that passed the filters.
    pub seen: u64,
    /// Events that passed the filters and could not be put into a ring, or not be counted for their thread.
    pub lost: u64,
    /// Events left out because a vCPU was asked for and this thread's vCPU is not known.
    pub unattributed: u64,
}

/// One CPU's counters of all slots.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug)]
pub struct SlotTable {
    /// Indexed by slot.
    pub slots: [SlotCounts; MAX_SLOTS],
}

/// A thread whose events are counted by themselves (`stat --per-vm`): any thread in which an event happened, also one of
/// the VMM that runs no vCPU. Its counters are those of its entry's index among all threads' counters: one for each slot
/// that is in use, one after the other.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedThread {
    /// `tgid << 32 | tid`; 0 when it is no such thread any more.
    pub task: u64,
    /// The same, also when the thread has ended; 0 for an entry that is free.
    pub owner: u64,
    /// 1 when the thread has ended. Events may still happen in it until it is gone.
    pub ended: u64,
}

impl CountedThread {
    /// The process; of a VM, its VMM.
    #[must_use]
    pub const fn tgid(&self) -> u32 {
        tgid_of(self.owner)
    }

    /// The thread.
    #[must_use]
    pub const fn tid(&self) -> u32 {
        tid_of(self.owner)
    }
}

/// The process of a thread, from both in one number as the kernel gives it (`tgid << 32 | tid`).
#[inline(always)]
#[must_use]
pub const fn tgid_of(task: u64) -> u32 {
    (task >> 32) as u32
}

/// The thread, from the same number.
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
