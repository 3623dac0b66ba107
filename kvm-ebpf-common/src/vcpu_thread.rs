//! The table entry of a vCPU thread: its identity, its state and its row cache.

use crate::{CachedRow, Key, ROW_CACHE_ENTRIES, VcpuClock, tgid_of, tid_of};

/// Index of an unknown vCPU.
pub const VCPU_UNKNOWN: u32 = u32::MAX;

/// Table entry of a vCPU thread.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuThread {
    /// `tgid << 32 | tid`. Programs compare it with the current thread. 0 if the thread runs another
    /// vCPU now, which has another entry.
    pub task: u64,
    /// `tgid << 32 | tid` for user space. It stays until the entry is freed; 0 if the entry is free.
    pub owner: u64,
    /// 1 if the thread has ended or runs another vCPU now.
    ///
    /// In the second case `task` is 0, and nothing is counted here any more. A thread that has ended
    /// may still cause events until it no longer exists.
    pub ended: u64,
    /// Index of the vCPU that the thread runs, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
    /// 1 if the index does not identify the vCPU, so it cannot show that the vCPU has moved: another VM of the same process
    /// has a vCPU with this index, which runs at the same time
    /// ([`VcpuIndexReuse::OtherVm`](crate::VcpuIndexReuse::OtherVm)), or the index is from the thread's name.
    pub shares_vcpu_index: u32,
    /// Not 0 if the next `kvm_entry` has to check whether the vCPU has moved to this thread:
    /// [`VCPU_RAN_IN_OTHER_THREAD`](crate::VCPU_RAN_IN_OTHER_THREAD) or
    /// [`VCPU_WAS_REPLACED`](crate::VCPU_WAS_REPLACED).
    pub check_vcpu_index: u32,
    /// Explicit padding.
    pub padding: u32,
    /// State of the thread.
    pub clock: VcpuClock,
    /// Cause of the current exit, from the last event that gave one.
    pub cause: Key,
    /// Instruction pointer of the guest at the last exit.
    pub guest_rip: u64,
    /// Index plus one of the thread's newest row; 0 if there is none. [`Row::next`](crate::Row::next)
    /// links to the older ones.
    pub first_row: u64,
    /// 1 while a raw tracepoint program changes the state with interrupts enabled.
    pub busy: u64,
    /// Recently used rows, at [`row_cache_index`](crate::row_cache_index).
    pub row_cache: [CachedRow; ROW_CACHE_ENTRIES],
}

impl VcpuThread {
    /// Creates the entry of a thread (`tgid << 32 | tid`) before its first event.
    #[must_use]
    pub const fn new(task: u64, vcpu: u32) -> Self {
        Self {
            task,
            owner: task,
            ended: 0,
            vcpu,
            shares_vcpu_index: 0,
            check_vcpu_index: 0,
            padding: 0,
            clock: VcpuClock::NEW,
            cause: Key {
                code: 0,
                subcode: 0,
                kind: 0,
            },
            guest_rip: 0,
            first_row: 0,
            busy: 0,
            row_cache: [CachedRow {
                code: 0,
                subcode: 0,
                row: 0,
            }; ROW_CACHE_ENTRIES],
        }
    }

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

    /// Returns whether two threads belong to the same process and run a vCPU with the same index.
    #[inline(always)]
    #[must_use]
    pub const fn has_same_vcpu_index(&self, other: &Self) -> bool {
        self.tgid() == other.tgid() && self.vcpu == other.vcpu
    }
}

const _: () = assert!(
    size_of::<VcpuThread>()
        == 40 + size_of::<VcpuClock>() + 40 + ROW_CACHE_ENTRIES * size_of::<CachedRow>()
);

crate::pod::pod!(VcpuThread);
