//! Percentiles of a histogram of durations.

use kvm_ebpf_common::{Histogram, bucket_start};

use super::MinMax;

/// Estimates a percentile of the durations, in ns; 0 if the histogram is empty.
///
/// The estimate is within 5 % for durations from 128 ns to 137 s. Shorter and longer durations are
/// bounded by `extremes`. A histogram tells only the bucket of a duration. The estimate is the
/// harmonic mean of the bucket's bounds, because its relative error is the same at both bounds.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate within a bucket; its inputs and its result are positive"
)]
pub fn percentile_ns(histogram: &Histogram, percent: f64, extremes: MinMax) -> u64 {
    let count = histogram.iter().copied().fold(0, u64::saturating_add);
    if count == 0 {
        return 0;
    }
    let MinMax { min_ns, max_ns } = extremes;
    let rank = (count as f64 * percent / 100.0).ceil().max(1.0);
    let mut cumulative = 0;
    for (index, &in_bucket) in histogram.iter().enumerate() {
        cumulative = u64::saturating_add(cumulative, in_bucket);
        if (cumulative as f64) < rank {
            continue;
        }
        let low = bucket_start(index);
        let high = match index + 1 {
            end if end < histogram.len() => bucket_start(end) - 1,
            _ => max_ns,
        };
        // Extremes within this bucket are tighter than its bounds.
        let (low, high) = (low.max(min_ns) as f64, high.min(max_ns) as f64);
        let middle = if low + high == 0.0 {
            0.0
        } else {
            2.0 * low * high / (low + high)
        };
        return (middle.round() as u64).clamp(min_ns.min(max_ns), max_ns);
    }
    max_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::{BUCKETS, bucket_index};
    use proptest::prelude::*;

    fn histogram(durations: &[u64]) -> Histogram {
        let mut histogram = [0; BUCKETS];
        for &ns in durations {
            histogram[bucket_index(ns)] += 1;
        }
        histogram
    }

    fn extremes(sorted: &[u64]) -> MinMax {
        MinMax {
            min_ns: sorted[0],
            max_ns: sorted[sorted.len() - 1],
        }
    }

    #[test]
    fn percentile_of_an_empty_histogram_is_zero() {
        assert_eq!(percentile_ns(&[0; BUCKETS], 50.0, MinMax::NONE), 0);
    }

    #[test]
    fn every_percentile_of_one_duration_is_that_duration() {
        for ns in [0, 5, 777, 1 << 50] {
            for percent in [0.0, 50.0, 99.0, 100.0] {
                assert_eq!(
                    percentile_ns(&histogram(&[ns]), percent, extremes(&[ns])),
                    ns
                );
            }
        }
    }

    proptest! {
        #[test]
        fn estimates_are_within_5_percent(
            mut durations in prop::collection::vec((0u32..37, any::<u64>()).prop_map(|(bits, ns)| 128 + (ns & ((1 << bits) - 1))), 1..300),
            percent in 1u32..=100,
        ) {
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100);
            let exact = durations[rank - 1];
            let estimate = percentile_ns(&histogram(&durations), f64::from(percent), extremes(&durations));
            let error = estimate.abs_diff(exact) as f64 / exact as f64;
            prop_assert!(error <= 0.05, "{estimate} for {exact}");
        }
    }
}
