//! Reading percentiles out of a histogram.

use kvm_ebpf_common::{Histogram, bucket_start};

use super::MinMax;

/// The duration that `percent` of the counted ones do not exceed, in ns: within 5 %, for durations from
/// 128 ns to 137 s; what is shorter or longer is known by the shortest and the longest that were seen.
/// 0 if nothing was counted.
///
/// All that is known of a duration is its bucket. Of the numbers in it the harmonic mean of its ends is
/// the one that is wrong by the same ratio at either end.
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
    let mut below = 0;
    for (index, &in_bucket) in histogram.iter().enumerate() {
        below = u64::saturating_add(below, in_bucket);
        if (below as f64) < rank {
            continue;
        }
        let low = bucket_start(index);
        let high = match index + 1 {
            end if end < histogram.len() => bucket_start(end) - 1,
            _ => max_ns,
        };
        // Where the extremes are in this bucket they say more than its ends.
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
    fn nothing_counted_is_zero() {
        assert_eq!(percentile_ns(&[0; BUCKETS], 50.0, MinMax::NONE), 0);
    }

    #[test]
    fn one_duration_is_every_percentile() {
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
        fn the_estimate_is_within_5_percent(
            mut durations in prop::collection::vec((0u32..37, any::<u64>()).prop_map(|(bits, ns)| 128 + (ns & ((1 << bits) - 1))), 1..300),
            percent in 1u32..=100,
        ) {
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100);
            let exact = durations[rank - 1];
            let estimate = percentile_ns(&histogram(&durations), f64::from(percent), extremes(&durations));
            let off = estimate.abs_diff(exact) as f64 / exact as f64;
            prop_assert!(off <= 0.05, "{estimate} for {exact}");
        }
    }
}
