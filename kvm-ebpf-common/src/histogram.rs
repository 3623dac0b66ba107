//! Log-linear histograms of durations in nanoseconds.
//!
//! Each power of two from 128 ns to 137 s is divided into [`BUCKETS_PER_OCTAVE`] buckets of equal
//! width. So the width of a bucket is at most a tenth of the durations in it, and the middle of a
//! bucket differs from them by at most 5 %.

/// Number of buckets into which a power of two is divided.
pub const BUCKETS_PER_OCTAVE: usize = 10;

/// Exponent of the first power of two that is divided: 2^7 = 128 ns. All durations below
/// share one bucket, because even an immediate re-entry of the guest takes longer.
const FIRST_OCTAVE: u32 = 7;

/// Number of powers of two that are divided. Durations from 2^37 ns (137 s) share the last bucket.
const OCTAVES: u32 = 30;

/// Number of buckets of a histogram.
pub const BUCKETS: usize = 2 + OCTAVES as usize * BUCKETS_PER_OCTAVE;

/// Number of durations in each bucket; see [`bucket_index`].
pub type Histogram = [u64; BUCKETS];

/// Returns the index of the bucket for a duration.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a bucket_in_octave is below BUCKETS_PER_OCTAVE"
)]
pub const fn bucket_index(ns: u64) -> usize {
    if ns < 1 << FIRST_OCTAVE {
        return 0;
    }
    if ns >= 1 << (FIRST_OCTAVE + OCTAVES) {
        return BUCKETS - 1;
    }
    let octave = log2(ns);
    let bucket_in_octave = ((ns ^ (1 << octave)) * BUCKETS_PER_OCTAVE as u64) >> octave;
    1 + (octave - FIRST_OCTAVE) as usize * BUCKETS_PER_OCTAVE + bucket_in_octave as usize
}

/// Returns the binary logarithm of a duration, rounded down. The duration must not be 0, and must be
/// below 2^40.
///
/// BPF has no instruction to count leading zeros. This finds the highest byte that is not zero, and
/// its logarithm in a table. The branches favour durations from 256 ns to 16 ms, which most exits have.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a byte")]
const fn log2(ns: u64) -> u32 {
    let shift = if ns < 1 << 16 {
        if ns < 1 << 8 { 0 } else { 8 }
    } else if ns < 1 << 24 {
        16
    } else if ns < 1 << 32 {
        24
    } else {
        32
    };
    shift + LOG2[(ns >> shift) as usize & 0xff] as u32
}

/// Binary logarithms of the values of a byte.
static LOG2: [u8; 256] = {
    let mut table = [0; 256];
    let mut number = 2;
    while number < 256 {
        table[number] = table[number / 2] + 1;
        number += 1;
    }
    table
};

/// Returns the shortest duration in a bucket, in ns.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "an index has at most OCTAVES octaves"
)]
pub const fn bucket_start(index: usize) -> u64 {
    if index == 0 {
        return 0;
    }
    let octave = FIRST_OCTAVE + ((index - 1) / BUCKETS_PER_OCTAVE) as u32;
    let bucket_in_octave = ((index - 1) % BUCKETS_PER_OCTAVE) as u64;
    (1 << octave) + (bucket_in_octave << octave).div_ceil(BUCKETS_PER_OCTAVE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_outside_the_range_are_in_the_outer_buckets() {
        assert_eq!(bucket_index(0), 0);
        assert_eq!(bucket_index(127), 0);
        assert_eq!(bucket_index(128), 1);
        assert_eq!(bucket_index((1 << 37) - 1), BUCKETS - 2);
        assert_eq!(bucket_index(1 << 37), BUCKETS - 1);
        assert_eq!(bucket_index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bucket_start_is_the_first_duration_of_each_bucket() {
        for index in 0..BUCKETS {
            assert_eq!(bucket_index(bucket_start(index)), index);
            if index > 0 {
                assert_eq!(bucket_index(bucket_start(index) - 1), index - 1);
            }
        }
    }

    #[test]
    fn the_width_of_a_bucket_is_at_most_a_tenth_of_its_start() {
        for index in 1..BUCKETS - 1 {
            let (start, end) = (bucket_start(index), bucket_start(index + 1));
            // Widths are rounded: 12.8 ns becomes 12 or 13 ns.
            assert!((end - start - 1) * 10 <= start, "{start}..{end}");
        }
    }
}
