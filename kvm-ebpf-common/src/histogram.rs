//! Log2 histograms of nanoseconds, and the one function that says which bucket a duration is in.

/// Buckets of a histogram. The last one also takes everything longer (2^47 ns is 39 hours).
pub const BUCKETS: usize = 48;

/// Counts per bucket; see [`bucket_index`].
pub type Histogram = [u64; BUCKETS];

/// The bucket of a duration: bucket 0 holds 0 and 1 ns, bucket `i` holds `2^i ..= 2^(i+1) - 1` ns.
#[inline(always)]
#[must_use]
pub const fn bucket_index(ns: u64) -> usize {
    // BPF has no instruction that counts leading zeros; six compare-and-shift steps are what is
    // left, and they need neither a loop nor a table.
    let mut rest = ns;
    let mut index = 0;
    if rest >> 32 != 0 {
        rest >>= 32;
        index += 32;
    }
    if rest >> 16 != 0 {
        rest >>= 16;
        index += 16;
    }
    if rest >> 8 != 0 {
        rest >>= 8;
        index += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        index += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        index += 2;
    }
    if rest >> 1 != 0 {
        index += 1;
    }
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// The shortest duration that falls into a bucket, in ns.
#[must_use]
pub const fn bucket_start(index: usize) -> u64 {
    if index == 0 { 0 } else { 1 << index }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_one_power_of_two() {
        assert_eq!(bucket_index(0), 0);
        assert_eq!(bucket_index(1), 0);
        for bit in 1..BUCKETS {
            assert_eq!(bucket_index(1 << bit), bit);
            assert_eq!(bucket_index((1 << bit) - 1), bit - 1);
        }
    }

    #[test]
    fn the_last_bucket_takes_the_rest() {
        assert_eq!(bucket_index(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_index(1 << BUCKETS), BUCKETS - 1);
    }

    #[test]
    fn each_bucket_starts_where_the_function_says() {
        for index in 0..BUCKETS {
            assert_eq!(bucket_index(bucket_start(index)), index);
        }
    }
}
