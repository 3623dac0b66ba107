//! VM exits with their times.

use kvm_ebpf_common::{BUCKETS, ExitStats, Histogram, Key, bucket_start};

use super::{Causes, Loss, Thread, percentile_ns};

/// The vCPU that exits belong to: its process, its index and its thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// The process, by its [`process_id`](super::process_id): of a VM, its VMM. 0 stands for VMs that ended long ago, all
    /// together.
    pub tgid: u32,
    /// The vCPU's index, or [`VCPU_UNKNOWN`](kvm_ebpf_common::VCPU_UNKNOWN).
    pub vcpu: u32,
    /// The vCPU's thread; 0 where it has ended and the index tells.
    pub tid: u32,
}

impl VcpuId {
    /// The thread.
    #[must_use]
    pub fn thread(&self) -> Thread {
        Thread {
            tgid: self.tgid,
            tid: self.tid,
        }
    }
}

/// The shortest and the longest time; `min_ns` is `u64::MAX` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinMax {
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl MinMax {
    /// No time at all.
    pub const NONE: Self = Self {
        min_ns: u64::MAX,
        max_ns: 0,
    };

    /// Takes in others' times.
    pub fn merge(&mut self, other: Self) {
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// Exits that belong together, with the time from each `kvm_exit` to the thread's next `kvm_entry`; or
/// events of another kind, with the parts of that time that are theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitTotals {
    /// How many.
    pub count: u64,
    /// How many of them were not over when they were read; they have no time.
    pub open: u64,
    /// How many of them have no time because their beginning or their end was not seen.
    pub untimed: u64,
    /// The times' sum.
    pub total_ns: u64,
    /// Of it, in the VMM's user space.
    pub vmm_ns: u64,
    /// Of it, halted.
    pub halted_ns: u64,
    /// Of it, ready but not running; 0 unless that was watched.
    pub preempted_ns: u64,
    /// The shortest and the longest.
    pub extremes: MinMax,
    /// How many in each bucket.
    pub histogram: Histogram,
}

impl Default for ExitTotals {
    fn default() -> Self {
        Self {
            count: 0,
            open: 0,
            untimed: 0,
            total_ns: 0,
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: 0,
            extremes: MinMax::NONE,
            histogram: [0; BUCKETS],
        }
    }
}

impl ExitTotals {
    /// What the kernel half, or user space in its place, has counted; the extremes are those of all
    /// epochs.
    #[must_use]
    pub fn of(stats: &ExitStats, extremes: MinMax) -> Self {
        Self {
            count: stats.count,
            open: 0,
            untimed: stats.untimed,
            total_ns: stats.total_ns,
            vmm_ns: stats.vmm_ns,
            halted_ns: stats.halted_ns,
            preempted_ns: stats.preempted_ns,
            extremes,
            histogram: stats.histogram,
        }
    }

    /// One that is not over.
    #[must_use]
    pub fn open() -> Self {
        Self {
            count: 1,
            open: 1,
            ..Self::default()
        }
    }

    /// One that has no time.
    #[must_use]
    pub fn untimed() -> Self {
        Self {
            count: 1,
            untimed: 1,
            ..Self::default()
        }
    }

    /// Adds others' exits.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.open = self.open.saturating_add(other.open);
        self.untimed = self.untimed.saturating_add(other.untimed);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.vmm_ns = self.vmm_ns.saturating_add(other.vmm_ns);
        self.halted_ns = self.halted_ns.saturating_add(other.halted_ns);
        self.preempted_ns = self.preempted_ns.saturating_add(other.preempted_ns);
        self.extremes.merge(other.extremes);
        for (to, from) in self.histogram.iter_mut().zip(&other.histogram) {
            *to = to.saturating_add(*from);
        }
    }

    /// What came after `earlier`. Extremes cannot be subtracted: `recent` are those of the time between,
    /// or of a bit more at either end. Where that more shows, the buckets are what is known, to within
    /// 10 %.
    #[must_use]
    pub fn since(&self, earlier: &Self, recent: MinMax) -> Self {
        let mut since = Self {
            // What was open then has been counted then.
            count: self.count.saturating_sub(earlier.count),
            open: self.open,
            untimed: self.untimed.saturating_sub(earlier.untimed),
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            vmm_ns: self.vmm_ns.saturating_sub(earlier.vmm_ns),
            halted_ns: self.halted_ns.saturating_sub(earlier.halted_ns),
            preempted_ns: self.preempted_ns.saturating_sub(earlier.preempted_ns),
            extremes: recent,
            histogram: self.histogram,
        };
        for (to, from) in since.histogram.iter_mut().zip(&earlier.histogram) {
            *to = to.saturating_sub(*from);
        }
        since.extremes = within(&since.histogram, recent);
        since
    }

    /// How many have a time.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.histogram.iter().copied().fold(0, u64::saturating_add)
    }

    /// The mean time; 0 if there is none.
    #[must_use]
    pub fn mean_ns(&self) -> u64 {
        self.total_ns.checked_div(self.timed()).unwrap_or(0)
    }

    /// Of the time, what is none of the other parts.
    #[must_use]
    pub fn kernel_ns(&self) -> u64 {
        let others = self
            .vmm_ns
            .saturating_add(self.halted_ns)
            .saturating_add(self.preempted_ns);
        self.total_ns.saturating_sub(others)
    }

    /// See [`percentile_ns`].
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        percentile_ns(&self.histogram, percent, self.extremes)
    }
}

/// The extremes, or what the histogram leaves of them.
fn within(histogram: &Histogram, extremes: MinMax) -> MinMax {
    let counted = |count: &u64| *count > 0;
    let first = histogram.iter().position(counted);
    let last = histogram.iter().rposition(counted);
    let (Some(first), Some(last)) = (first, last) else {
        return MinMax::NONE;
    };
    let into = |bucket: usize, ns: u64| {
        let end = match bucket + 1 {
            BUCKETS => u64::MAX,
            next => bucket_start(next) - 1,
        };
        ns.clamp(bucket_start(bucket), end)
    };
    MinMax {
        min_ns: into(first, extremes.min_ns),
        max_ns: into(last, extremes.max_ns),
    }
}

/// The exits of one thread under one key, as a source gives them.
#[derive(Debug, Clone, Copy)]
pub struct ThreadExits<'a> {
    /// The vCPU it belongs to.
    pub vcpu_id: VcpuId,
    /// Why, or what.
    pub key: Key,
    /// How many and how long, since the beginning.
    pub totals: &'a ExitTotals,
    /// The shortest and the longest since the reading before.
    pub recent: MinMax,
    /// The most frequent causes since the beginning, where they were asked for.
    pub causes: Option<&'a Causes>,
}

/// What a vCPU's thread did besides its exits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTimes {
    /// The vCPU it belongs to.
    pub vcpu_id: VcpuId,
    /// How long it was in the guest, up to the reading.
    pub guest_ns: u64,
    /// How long the exit that is not over has taken so far.
    pub open_ns: u64,
}

/// What else a reading of all exits says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitReading {
    /// When, in ns since the beginning.
    pub time_ns: u64,
    /// The vCPUs.
    pub vcpus: Vec<VcpuTimes>,
    /// What is missing since the beginning.
    pub loss: Loss,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::bucket_index;

    fn totals(times: &[u64]) -> ExitTotals {
        let mut totals = ExitTotals::default();
        for &ns in times {
            totals.count += 1;
            totals.total_ns += ns;
            totals.histogram[bucket_index(ns)] += 1;
            totals.extremes.merge(MinMax {
                min_ns: ns,
                max_ns: ns,
            });
        }
        totals
    }

    #[test]
    fn an_interval_has_its_own_extremes() {
        let earlier = totals(&[100_000, 5_000_000]);
        let later = totals(&[100_000, 5_000_000, 200_000, 300_000]);
        let recent = MinMax {
            min_ns: 200_000,
            max_ns: 300_000,
        };
        assert_eq!(later.since(&earlier, recent).extremes, recent);
    }

    #[test]
    fn extremes_of_more_than_the_interval_are_not_taken_for_its_own() {
        let earlier = totals(&[5_000_000]);
        let later = totals(&[5_000_000, 200_000]);
        let since = later.since(&earlier, later.extremes);
        assert_eq!(since.extremes.min_ns, 200_000);
        let off = since.extremes.max_ns as f64 / 200_000.0;
        assert!((0.9..=1.1).contains(&off), "{:?}", since.extremes);
    }

    #[test]
    fn an_interval_without_exits_has_no_extremes() {
        let same = totals(&[5_000_000]);
        assert_eq!(same.since(&same, same.extremes).extremes, MinMax::NONE);
    }
}
