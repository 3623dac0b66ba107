//! Totals of exits: counts, times and their distribution.

use kvm_ebpf_common::{BUCKETS, ExitStats, Histogram, bucket_start};

use super::{MinMax, percentile_ns};

/// Totals of a group of exits. An exit lasts from `kvm_exit` to the thread's next `kvm_entry`.
///
/// If another kind of event is counted, the totals are those of the events, and each event has its
/// share of the duration of its exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitTotals {
    /// Number of exits.
    pub count: u64,
    /// Exits that were still in progress at the reading. They have no duration.
    pub open: u64,
    /// Exits without a duration, because their start or their end is unknown.
    pub untimed: u64,
    /// Sum of the durations.
    pub total_ns: u64,
    /// Time in the VMM's user space.
    pub vmm_ns: u64,
    /// Time halted.
    pub halted_ns: u64,
    /// Time preempted: the thread was runnable, but did not run. 0 unless preemption is measured.
    pub preempted_ns: u64,
    /// The shortest and the longest duration.
    pub extremes: MinMax,
    /// Number of durations in each bucket.
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
    /// Converts the statistics of a row. `extremes` cover the whole measurement; those in `stats` cover
    /// only the latest epoch, which is the time between two readings.
    #[must_use]
    pub fn from_stats(stats: &ExitStats, extremes: MinMax) -> Self {
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

    /// Totals of a single exit that is in progress.
    #[must_use]
    pub fn one_in_progress() -> Self {
        Self {
            count: 1,
            open: 1,
            ..Self::default()
        }
    }

    /// Totals of a single exit without a duration.
    #[must_use]
    pub fn one_untimed() -> Self {
        Self {
            count: 1,
            untimed: 1,
            ..Self::default()
        }
    }

    /// Adds the exits of `other`.
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

    /// Returns the exits since `earlier`.
    ///
    /// Extremes cannot be subtracted. `recent` are those of the interval, but may include exits
    /// shortly before or after it. They are therefore clamped to the histogram's buckets, which are
    /// accurate to within 10 %.
    #[must_use]
    pub fn since(&self, earlier: &Self, recent: MinMax) -> Self {
        let mut since = Self {
            // Exits that were in progress at `earlier` are included in its count.
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
        since.extremes = clamp_to_histogram(&since.histogram, recent);
        since
    }

    /// Returns the number of exits that have a duration.
    #[must_use]
    pub fn timed_count(&self) -> u64 {
        self.histogram.iter().copied().fold(0, u64::saturating_add)
    }

    /// Returns the mean duration; 0 if no exit has one.
    #[must_use]
    pub fn mean_ns(&self) -> u64 {
        self.total_ns.checked_div(self.timed_count()).unwrap_or(0)
    }

    /// Returns the time in the kernel: the total without VMM, halted and preempted time.
    #[must_use]
    pub fn kernel_ns(&self) -> u64 {
        let others = self
            .vmm_ns
            .saturating_add(self.halted_ns)
            .saturating_add(self.preempted_ns);
        self.total_ns.saturating_sub(others)
    }

    /// Estimates a percentile of the durations; see [`percentile_ns`].
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        percentile_ns(&self.histogram, percent, self.extremes)
    }
}

/// Clamps extremes to the first and the last bucket that are not empty.
fn clamp_to_histogram(histogram: &Histogram, extremes: MinMax) -> MinMax {
    let counted = |count: &u64| *count > 0;
    let first = histogram.iter().position(counted);
    let last = histogram.iter().rposition(counted);
    let (Some(first), Some(last)) = (first, last) else {
        return MinMax::NONE;
    };
    let clamp = |bucket: usize, ns: u64| {
        let end = match bucket + 1 {
            BUCKETS => u64::MAX,
            next => bucket_start(next) - 1,
        };
        ns.clamp(bucket_start(bucket), end)
    };
    MinMax {
        min_ns: clamp(first, extremes.min_ns),
        max_ns: clamp(last, extremes.max_ns),
    }
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
    fn interval_extremes_are_the_recent_ones() {
        let earlier = totals(&[100_000, 5_000_000]);
        let later = totals(&[100_000, 5_000_000, 200_000, 300_000]);
        let recent = MinMax {
            min_ns: 200_000,
            max_ns: 300_000,
        };
        assert_eq!(later.since(&earlier, recent).extremes, recent);
    }

    #[test]
    fn extremes_outside_the_interval_are_clamped_to_the_histogram() {
        let earlier = totals(&[5_000_000]);
        let later = totals(&[5_000_000, 200_000]);
        let since = later.since(&earlier, later.extremes);
        assert_eq!(since.extremes.min_ns, 200_000);
        let ratio = since.extremes.max_ns as f64 / 200_000.0;
        assert!((0.9..=1.1).contains(&ratio), "{:?}", since.extremes);
    }

    #[test]
    fn interval_without_exits_has_no_extremes() {
        let same = totals(&[5_000_000]);
        assert_eq!(same.since(&same, same.extremes).extremes, MinMax::NONE);
    }
}
