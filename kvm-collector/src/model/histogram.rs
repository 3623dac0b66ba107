//! Reading percentiles out of a log2 histogram.

use kvm_ebpf_common::{BUCKETS, Histogram, bucket_start};

/// The duration that `percent` of the counted ones do not exceed, in ns, as far as a log2 histogram
/// can tell: within the bucket the durations are taken to be spread evenly, between the shortest and
/// the longest that were seen. 0 if nothing was counted.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate within a bucket; its inputs and its result are positive"
)]
pub fn percentile_ns(histogram: &Histogram, percent: f64, min_ns: u64, max_ns: u64) -> u64 {
    let count: u64 = histogram.iter().sum();
    if count == 0 {
        return 0;
    }
    let rank = (count as f64 * percent / 100.0).max(1.0);
    let mut below = 0;
    for (index, &in_bucket) in histogram.iter().enumerate() {
        if in_bucket == 0 || ((below + in_bucket) as f64) < rank {
            below += in_bucket;
            continue;
        }
        let low = bucket_start(index).max(min_ns);
        let high = if index + 1 < BUCKETS {
            bucket_start(index + 1).min(max_ns)
        } else {
            max_ns
        };
        let within = (rank - below as f64) / in_bucket as f64;
        let width = high.saturating_sub(low) as f64;
        return (low + (width * within) as u64).clamp(min_ns, max_ns.max(min_ns));
    }
    max_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::bucket_index;
    use proptest::prelude::*;

    fn histogram(durations: &[u64]) -> Histogram {
        let mut histogram = [0; BUCKETS];
        for &ns in durations {
            histogram[bucket_index(ns)] += 1;
        }
        histogram
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!(percentile_ns(&[0; BUCKETS], 50.0, 0, 0), 0);
    }

    #[test]
    fn one_duration_is_every_percentile() {
        for percent in [0.0, 50.0, 99.0, 100.0] {
            assert_eq!(percentile_ns(&histogram(&[777]), percent, 777, 777), 777);
        }
    }

    proptest! {
        /// The estimate and the true value always share a bucket, so it is off by less than 2x.
        #[test]
        fn the_estimate_lies_in_the_true_values_bucket(
            mut durations in prop::collection::vec(0u64..1 << 40, 1..200),
            percent in 1u32..=100,
        ) {
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100);
            let exact = durations[rank - 1];
            let estimate = percentile_ns(
                &histogram(&durations),
                f64::from(percent),
                durations[0],
                durations[durations.len() - 1],
            );
            let (low, high) = (bucket_start(bucket_index(exact)), bucket_start(bucket_index(exact) + 1));
            prop_assert!((low..=high).contains(&estimate), "{estimate} for {exact}");
        }
    }
}
