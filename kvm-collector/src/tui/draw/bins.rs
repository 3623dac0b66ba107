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

impl Bin {
    /// Returns the bounds with units.
    pub(super) fn label(&self) -> String {
        let from = units::short_duration(self.from_ns);
        match self.to_ns {
            Some(to_ns) => format!("{from}-{}", units::short_duration(to_ns)),
            None => format!(">={from}"),
        }
    }
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

/// Returns the finest bins from the first to the last duration of which there are at most `max`; none if
/// the histogram is empty. If `max` is less than 2, there may be 2.
pub(super) fn bins(histogram: &Histogram, max: usize) -> Vec<Bin> {
    let counted = |count: &u64| *count > 0;
    let (Some(first), Some(last)) = (
        histogram.iter().position(counted),
        histogram.iter().rposition(counted),
    ) else {
        return Vec::new();
    };
    let largest = BIN_SIZES[BIN_SIZES.len() - 1];
    let number = |size: &usize| bin_index(last, *size) - bin_index(first, *size) + 1;
    let mut sizes = BIN_SIZES.into_iter();
    let size = sizes.find(|size| number(size) <= max).unwrap_or(largest);
    (bin_index(first, size)..=bin_index(last, size))
        .map(|bin| {
            let (start, end) = (first_bucket(bin, size), first_bucket(bin + 1, size));
            Bin {
                from_ns: bucket_start(start),
                to_ns: (end < BUCKETS).then(|| bucket_start(end)),
                count: histogram[start..end].iter().sum(),
            }
        })
        .collect()
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

    fn labels(durations: &[u64], max: usize) -> Vec<String> {
        let bins = bins(&histogram(durations), max);
        bins.iter().map(Bin::label).collect()
    }

    #[test]
    fn the_finest_bins_that_fit_are_selected() {
        let durations = [1024, 2047];
        assert_eq!(labels(&durations, 1), ["1.02us-2.05us"]);
        assert_eq!(labels(&durations, 2), ["1.02us-1.54us", "1.54us-2.05us"]);
        assert_eq!(labels(&durations, 4).len(), 2);
        assert_eq!(labels(&durations, 5).len(), 5);
        assert_eq!(labels(&durations, 9).len(), 5);
        let finest = labels(&durations, 10);
        assert_eq!(finest.len(), 10);
        assert_eq!(finest[..2], ["1.02us-1.13us", "1.13us-1.23us"]);
        assert_eq!(labels(&[1024, 1100, 1025], 100), ["1.02us-1.13us"]);
    }

    #[test]
    fn the_outermost_bins_cover_all_durations() {
        assert_eq!(labels(&[5], 10), ["0ns-128ns"]);
        assert_eq!(labels(&[u64::MAX], 10), [">=137s"]);
        assert_eq!(labels(&[], 10), [""; 0]);
    }

    proptest! {
        #[test]
        fn bins_are_contiguous_and_contain_all_exits(
            durations in prop::collection::vec((0u32..45, any::<u64>()).prop_map(|(bits, ns)| ns & ((1 << bits) - 1)), 1..50),
            max in 2usize..100,
        ) {
            let bins = bins(&histogram(&durations), max);
            prop_assert!(bins.len() <= max);
            for pair in bins.windows(2) {
                prop_assert_eq!(pair[0].to_ns, Some(pair[1].from_ns));
            }
            for bin in bins {
                let inside = |ns: &&u64| **ns >= bin.from_ns && bin.to_ns.is_none_or(|to| **ns < to);
                prop_assert_eq!(durations.iter().filter(inside).count() as u64, bin.count);
            }
        }
    }
}
