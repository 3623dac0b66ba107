//! VM exits: what they are counted under, and what is kept of them.

use crate::{BUCKETS, Histogram, Key, Span, VcpuClock, bucket_index, tgid_of, tid_of};

/// The vCPU's index is not known: the kernel's `kvm_exit` and `kvm_entry` have no `vcpu_id`
/// (arm64; x86 before 5.10).
pub const VCPU_UNKNOWN: u32 = u32::MAX;

/// The shortest and the longest since a reading.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extremes {
    /// Between which readings; see [`ExitStats::extremes`].
    pub epoch: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// All spans of one thread and [`Key`]. A thread runs on one CPU at a time, so these are updated
/// without atomics.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStats {
    /// How many.
    pub count: u64,
    /// How many of them have no time, since the exit or the entry was not seen.
    pub untimed: u64,
    /// Sum of the times.
    pub total_ns: u64,
    /// Of it, in the VMM's user space.
    pub vmm_ns: u64,
    /// Of it, halted.
    pub halted_ns: u64,
    /// Of it, ready but not running.
    pub preempted_ns: u64,
    /// Extremes can be merged but not subtracted, so they are kept for each epoch, which user space
    /// ends when it reads: the ones of the current epoch, and of the one before, each at the index
    /// of its epoch's last bit. Other epochs' are of no use.
    pub extremes: [Extremes; 2],
    /// How many in each bucket.
    pub histogram: Histogram,
}

impl ExitStats {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        count: 0,
        untimed: 0,
        total_ns: 0,
        vmm_ns: 0,
        halted_ns: 0,
        preempted_ns: 0,
        extremes: [Extremes {
            epoch: 0,
            min_ns: 0,
            max_ns: 0,
        }; 2],
        histogram: [0; BUCKETS],
    };

    /// Adds a span. Epochs begin with 1.
    #[inline(always)]
    pub fn add(&mut self, span: &Span, epoch: u64) {
        let ns = span.total_ns;
        self.count += 1;
        self.total_ns += ns;
        self.vmm_ns += span.breakdown.vmm_ns;
        self.halted_ns += span.breakdown.halted_ns;
        self.preempted_ns += span.breakdown.preempted_ns;
        let extremes = &mut self.extremes[(epoch & 1) as usize];
        if extremes.epoch != epoch {
            *extremes = Extremes {
                epoch,
                min_ns: ns,
                max_ns: ns,
            };
        } else if ns < extremes.min_ns {
            extremes.min_ns = ns;
        } else if ns > extremes.max_ns {
            extremes.max_ns = ns;
        }
        let bucket = bucket_index(ns);
        // Always so; the verifier cannot know.
        if bucket < BUCKETS {
            self.histogram[bucket] += 1;
        }
    }

    /// Adds one that has no time.
    #[inline(always)]
    pub fn add_untimed(&mut self) {
        self.count += 1;
        self.untimed += 1;
    }
}

/// One row: what a thread's spans of one key add up to.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The thread's index among the [`VcpuThread`]s, and 1; 0 for a row not in use.
    pub thread: u64,
    /// The index, and 1, of the row that the thread had before this one; 0 for none.
    pub next: u64,
    /// What is counted here.
    pub key: Key,
    /// What was counted.
    pub stats: ExitStats,
}

/// Which row belongs to a thread's key.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// The thread's index.
    pub thread: u64,
    /// The key.
    pub key: Key,
}

/// How many of its rows a thread remembers the places of.
pub const ROW_CACHE_ENTRIES: usize = 32;

/// The place of a row that was needed before.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedRow {
    /// The row's key's.
    pub code: u64,
    /// The row's key's.
    pub subcode: u32,
    /// Its index and 1; 0 for none.
    pub row: u32,
}

/// Where among a thread's [`NearRow`]s a key's belongs. The common reasons of VMX and of SVM all have a
/// place of their own.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the last bits are of use"
)]
pub const fn row_cache_index(key: &Key) -> usize {
    let code = key.code;
    let mixed = code ^ (code >> 10).wrapping_mul(9) ^ (code >> 12) ^ key.subcode as u64;
    mixed as usize % ROW_CACHE_ENTRIES
}

/// A vCPU's thread.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuThread {
    /// `tgid << 32 | tid`; 0 when it is no such thread any more.
    pub task: u64,
    /// The same, also when the thread has ended; 0 for an entry that is free.
    pub owner: u64,
    /// 1 when it has ended, or runs another vCPU now and goes on under another index. `task` is 0 then: nothing is counted
    /// here any more. In a thread that has ended, events may still happen until it is gone.
    pub ended: u64,
    /// The vCPU it runs, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
    /// 1: another thread of the process runs a vCPU with the same index at the same time, of another VM. See [`Turn`].
    ///
    /// [`Turn`]: crate::Turn
    pub shares_vcpu_index: u32,
    /// 1: at the next `kvm_entry`, it has to be checked whether the vCPU has moved here. Another thread has entered the
    /// vCPU, or another vCPU needed the same entry in the table of who entered last.
    pub check_vcpu_index: u32,
    /// So that there is no padding.
    pub padding: u32,
    /// Where it is.
    pub clock: VcpuClock,
    /// What the current exit's cause seems to be.
    pub cause: Key,
    /// Where the guest was when it was left.
    pub guest_rip: u64,
    /// The index, and 1, of the thread's newest row; 0 for none. The others follow by [`Row::next`].
    pub first_row: u64,
    /// 1 while a raw tracepoint program changes the thread's state with interrupts on.
    pub busy: u64,
    /// Rows it needed last.
    pub row_cache: [CachedRow; ROW_CACHE_ENTRIES],
}

impl VcpuThread {
    /// A thread (`tgid << 32 | tid`) of which nothing has been seen yet.
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

    /// The process: of a VM, its VMM.
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

/// What one CPU could not count properly.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimingCounters {
    /// Exits followed by another exit of the thread, without an entry in between: they have no time.
    pub unmatched: u64,
    /// Exits not counted because there was no free row.
    pub rows_full: u64,
    /// Exits not counted because there was no room for another thread.
    pub threads_full: u64,
    /// Exits left out because a vCPU was asked for and this thread's vCPU is not known.
    pub unattributed: u64,
    /// Slow exits that could not be queued for user space. They are counted.
    pub slow_lost: u64,
    /// Exits that have no time, since another thread ran the vCPU before the next entry of this one. Not in `unmatched`.
    pub moved: u64,
    /// Events that came in an interrupt while another program changed the state of their thread. They are not counted.
    pub interrupted: u64,
    /// Notices of new and ended threads that could not be queued: user space has to search the tables.
    pub notifications_lost: u64,
}

const _: () = assert!(size_of::<ExitStats>() == 6 * 8 + 2 * 24 + size_of::<Histogram>());
const _: () = assert!(size_of::<Row>() == 32 + size_of::<ExitStats>());
const _: () = assert!(size_of::<RowKey>() == 24);
const _: () = assert!(
    size_of::<VcpuThread>()
        == 40 + size_of::<VcpuClock>() + 40 + ROW_CACHE_ENTRIES * size_of::<CachedRow>()
);
const _: () = assert!(size_of::<TimingCounters>() == 64);

crate::pod::pod!(
    Extremes,
    ExitStats,
    Row,
    RowKey,
    CachedRow,
    VcpuThread,
    TimingCounters
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_reasons_are_near_without_displacing_each_other() {
        let vmx = [1, 7, 10, 12, 18, 28, 30, 31, 32, 40, 45, 48, 49, 52, 54, 56];
        let svm = [
            0x60, 0x64, 0x6e, 0x72, 0x77, 0x78, 0x7b, 0x7c, 0x400, 0x401, 0x402,
        ];
        for (class, codes) in [(1, &vmx[..]), (2, &svm[..])] {
            let mut places = [0; ROW_CACHE_ENTRIES];
            for &code in codes {
                places[row_cache_index(&Key {
                    code,
                    subcode: class,
                    kind: 0,
                })] += 1;
            }
            assert!(places.iter().all(|keys| *keys <= 1), "{class}: {places:?}");
        }
    }
}
