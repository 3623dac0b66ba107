//! Statistics of exits: counts, times, minimum and maximum, and a histogram.

use crate::{BUCKETS, Histogram, Span, bucket_index};

/// Minimum and maximum duration in one epoch.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extremes {
    /// Number of the epoch; see [`ExitStats::extremes`].
    pub epoch: u64,
    /// Minimum duration.
    pub min_ns: u64,
    /// Maximum duration.
    pub max_ns: u64,
}

/// Statistics of all spans of one thread and [`Key`](crate::Key).
///
/// A thread runs on one CPU at a time, so its programs update them without atomic instructions.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStats {
    /// Number of spans.
    pub count: u64,
    /// Number of spans without a duration, because the exit or the entry was not seen.
    pub untimed: u64,
    /// Total duration.
    pub total_ns: u64,
    /// Part of the total in the VMM's user space.
    pub vmm_ns: u64,
    /// Part of the total in which the vCPU was halted.
    pub halted_ns: u64,
    /// Part of the total in which the thread was runnable but did not run.
    pub preempted_ns: u64,
    /// Extremes of the current epoch and of the previous one, at index `epoch & 1`.
    ///
    /// User space starts a new epoch at each reading, because extremes of two readings cannot be
    /// subtracted like counts. Entries of older epochs are stale.
    pub extremes: [Extremes; 2],
    /// Number of spans in each bucket.
    pub histogram: Histogram,
}

impl ExitStats {
    /// Statistics without any span.
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

    /// Adds a span. Epochs start at 1.
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
        // Always true, but the verifier needs the check.
        if bucket < BUCKETS {
            self.histogram[bucket] += 1;
        }
    }

    /// Counts a span without a duration.
    #[inline(always)]
    pub fn add_untimed(&mut self) {
        self.count += 1;
        self.untimed += 1;
    }
}

const _: () = assert!(size_of::<ExitStats>() == 6 * 8 + 2 * 24 + size_of::<Histogram>());

crate::pod::pod!(Extremes, ExitStats);
