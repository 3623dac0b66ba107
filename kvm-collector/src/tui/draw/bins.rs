//! Groups the buckets of a histogram into bins, one per line of the screen.

use kvm_ebpf_common::{BUCKETS, BUCKETS_PER_OCTAVE, Histogram, bucket_start};

use crate::format::units;

/// A range of durations, and how many exits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bin {
    /// Lower bound, inclusive.
    pub(super) from_ns: u64,
    /// Upper bound, exclusive; `None` in the last bin of a histogram, which is unbounded.
    pub(super) to_ns: Option<u64>,
    pub(super) count: u64,
}

/// Returns the bounds of bins with units. The lower bound is left out if it is the upper bound of the bin before.
pub(super) fn labels(bins: &[Bin]) -> Vec<String> {
    let mut before = None;
    let label = |bin: &Bin| {
        let from = match before {
            Some(end) if end == bin.from_ns => String::new(),
            _ => units::short_duration(bin.from_ns),
        };
        before = bin.to_ns;
        match bin.to_ns {
            Some(to_ns) => format!("{from}-{}", units::short_duration(to_ns)),
            None => format!(">={}", units::short_duration(bin.from_ns)),
        }
    };
    bins.iter().map(label).collect()
}

/// Numbers of buckets that a bin may have: from a tenth of a power of two, which is the resolution of the
/// histogram, to more than all of it. Bins start at a power of two, or divide one into equal parts.
const BIN_SIZES: [usize; 9] = [
    1,
    2,
    5,
    BUCKETS_PER_OCTAVE,
    2 * BUCKETS_PER_OCTAVE,
    4 * BUCKETS_PER_OCTAVE,
    8 * BUCKETS_PER_OCTAVE,
    16 * BUCKETS_PER_OCTAVE,
    32 * BUCKETS_PER_OCTAVE,
];

/// Returns the finest bins of which at most `max` have durations. Others are left out. If `max` is less than 2, there may be 2.
pub(super) fn bins(histogram: &Histogram, max: usize) -> Vec<Bin> {
    let mut bins = Vec::new();
    for size in BIN_SIZES {
        bins = bins_of(histogram, size);
        if bins.len() <= max {
            break;
        }
    }
    bins
}

/// Returns the bins of `size` buckets that have durations.
fn bins_of(histogram: &Histogram, size: usize) -> Vec<Bin> {
    let all = (0..=bin_index(BUCKETS - 1, size)).map(|bin| {
        let (start, end) = (first_bucket(bin, size), first_bucket(bin + 1, size));
        Bin {
            from_ns: bucket_start(start),
            to_ns: (end < BUCKETS).then(|| bucket_start(end)),
            count: histogram[start..end].iter().sum(),
        }
    });
    all.filter(|bin| bin.count > 0).collect()
}

/// Returns the bin of a bucket. The first bucket, of the shortest durations, has a bin of its own.
fn bin_index(bucket: usize, size: usize) -> usize {
    bucket.div_ceil(size)
}

/// Returns the first bucket of a bin.
fn first_bucket(bin: usize, size: usize) -> usize {
    match bin {
        0 => 0,
        bin => (1 + (bin - 1) * size).min(BUCKETS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::bucket_index;
    use proptest::prelude::*;

    fn histogram(durations: &[u64]) -> Histogram {
        let mut histogram = [0; BUCKETS];
        for ns in durations {
            histogram[bucket_index(*ns)] += 1;
        }
        histogram
    }

    fn labels_of(durations: &[u64], max: usize) -> Vec<String> {
        labels(&bins(&histogram(durations), max))
    }

    #[test]
    fn the_finest_bins_that_fit_are_selected() {
        let durations = [1024, 2047];
        assert_eq!(labels_of(&durations, 1), ["1.02us-2.05us"]);
        assert_eq!(labels_of(&durations, 2), ["1.02us-1.13us", "1.95us-2.05us"]);
        let octave: Vec<_> = (0..10).map(|it| 1030 + it * 103).collect();
        assert_eq!(labels_of(&octave, 4), ["1.02us-1.54us", "-2.05us"]);
        assert_eq!(labels_of(&octave, 9).len(), 5);
        let finest = labels_of(&octave, 10);
        assert_eq!(finest.len(), 10);
        assert_eq!(finest[..2], ["1.02us-1.13us", "-1.23us"]);
        assert_eq!(labels_of(&[1024, 1100, 1025], 100), ["1.02us-1.13us"]);
    }

    #[test]
    fn no_value_is_in_two_labels() {
        let durations = [100, 1024, 1130, 4096, u64::MAX];
        assert_eq!(
            labels_of(&durations, 10),
            [
                "0ns-128ns",
                "1.02us-1.13us",
                "-1.23us",
                "4.10us-4.51us",
                ">=137s"
            ]
        );
    }

    #[test]
    fn the_outermost_bins_cover_all_durations() {
        assert_eq!(labels_of(&[5], 10), ["0ns-128ns"]);
        assert_eq!(labels_of(&[u64::MAX], 10), [">=137s"]);
        assert_eq!(labels_of(&[], 10), [""; 0]);
    }

    proptest! {
        #[test]
        fn bins_are_in_order_and_contain_all_exits(
            durations in prop::collection::vec((0u32..45, any::<u64>()).prop_map(|(bits, ns)| ns & ((1 << bits) - 1)), 1..50),
            max in 2usize..100,
        ) {
            let bins = bins(&histogram(&durations), max);
            prop_assert!(bins.len() <= max);
            for pair in bins.windows(2) {
                prop_assert!(pair[0].to_ns.is_some_and(|to| to <= pair[1].from_ns));
            }
            let all: u64 = bins.iter().map(|it| it.count).sum();
            prop_assert_eq!(all, durations.len() as u64);
            for bin in bins {
                prop_assert!(bin.count > 0);
                let inside = |ns: &&u64| **ns >= bin.from_ns && bin.to_ns.is_none_or(|to| **ns < to);
                prop_assert_eq!(durations.iter().filter(inside).count() as u64, bin.count);
            }
        }
    }
}
