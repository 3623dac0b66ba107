//! Rates of a row over the last intervals, in compact form.

/// Number of samples in a trend.
pub const TREND_SAMPLES: usize = 120;

/// Rates per second of one row, one sample per interval, in a circular buffer. It takes 480 bytes.
///
/// A sample is the upper half of an `f32`. A sparkline needs less than these 8 bits of precision.
#[derive(Debug, Clone)]
pub(super) struct Trend {
    exits: [u16; TREND_SAMPLES],
    cost: [u16; TREND_SAMPLES],
}

/// The rate that a trend shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrendMetric {
    /// Exits per second.
    Exits,
    /// Cost in ns per second.
    Cost,
}

impl Trend {
    pub(super) fn new() -> Self {
        Self {
            exits: [0; TREND_SAMPLES],
            cost: [0; TREND_SAMPLES],
        }
    }

    /// Sets a sample. The sample of an interval has the same index in all rows.
    pub(super) fn set(&mut self, index: usize, exits: f32, cost: f32) {
        self.exits[index] = pack(exits);
        self.cost[index] = pack(cost);
    }

    pub(super) fn is_flat(&self) -> bool {
        let zero = |samples: &[u16; TREND_SAMPLES]| samples.iter().all(|it| *it == 0);
        zero(&self.exits) && zero(&self.cost)
    }

    /// Adds each sample to the sum at the same index.
    pub(super) fn add_to(&self, sums: &mut [f32; TREND_SAMPLES], metric: TrendMetric) {
        let samples = match metric {
            TrendMetric::Exits => &self.exits,
            TrendMetric::Cost => &self.cost,
        };
        for (sum, sample) in sums.iter_mut().zip(samples) {
            *sum += unpack(*sample);
        }
    }
}

/// Rates are not negative. A rate above 1e-38 stays above 0.
fn pack(rate: f32) -> u16 {
    (rate.to_bits() >> 16) as u16
}

fn unpack(sample: u16) -> f32 {
    f32::from_bits(u32::from(sample) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rates_are_accurate_to_one_percent() {
        for rate in [0.0_f32, 0.01, 1.0, 59_812.0, 8e9] {
            let unpacked = unpack(pack(rate));
            assert!((rate - unpacked).abs() <= rate * 0.01, "{rate}: {unpacked}");
        }
    }

    #[test]
    fn a_trend_takes_480_bytes() {
        assert_eq!(size_of::<Trend>(), 480);
    }
}
