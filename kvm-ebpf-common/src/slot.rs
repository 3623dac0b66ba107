//! Slots: a tracepoint program cannot tell which event it runs for, so each event gets a program of
//! its own, and a number, its slot.

/// How many events can be watched at once. Linux 6.18 on x86 has 99 kvm and kvmmmu events.
pub const MAX_SLOTS: usize = 128;

/// What one CPU has seen of one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Events that passed the filters.
    pub seen: u64,
    /// Events that passed the filters and could not be put into a ring.
    pub lost: u64,
    /// Events left out because a vCPU was asked for and this thread's vCPU is not known.
    pub unattributed: u64,
}

/// One CPU's counters of all slots: one map value, so that one system call reads everything.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SlotTable {
    /// Indexed by slot.
    pub slots: [SlotCounts; MAX_SLOTS],
}

/// What events are counted under when they are counted per thread. Both ids, because the kernel
/// reuses tids.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadSlot {
    /// The process; of a VM, its VMM.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The event's slot.
    pub slot: u32,
}

const _: () = assert!(size_of::<SlotCounts>() == 24);
const _: () = assert!(size_of::<SlotTable>() == 24 * MAX_SLOTS);
const _: () = assert!(size_of::<ThreadSlot>() == 12);

crate::pod!(SlotCounts, SlotTable, ThreadSlot);
