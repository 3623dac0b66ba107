//! The last readings of a row, in little room.

/// Readings remembered.
pub const TREND_SAMPLES: usize = 120;

/// What is remembered of a row: rates per second, of each reading. 480 bytes.
///
/// A rate is kept in the upper half of an `f32`: 8 bits of precision are more than a sparkline shows.
#[derive(Debug, Clone)]
pub(super) struct Trend {
    exits: [u16; TREND_SAMPLES],
    busy: [u16; TREND_SAMPLES],
}

/// Which rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrendMetric {
    /// Exits per second.
    Exits,
    /// Time out of the guest and not idle, in ns per second.
    Busy,
}

impl Trend {
    pub(super) fn new() -> Self {
        Self {
            exits: [0; TREND_SAMPLES],
            busy: [0; TREND_SAMPLES],
        }
    }

    /// All rows have their samples at the same places, which are used in turn.
    pub(super) fn set(&mut self, place: usize, exits: f32, busy: f32) {
        self.exits[place] = pack(exits);
        self.busy[place] = pack(busy);
    }

    pub(super) fn is_flat(&self) -> bool {
        let zero = |samples: &[u16; TREND_SAMPLES]| samples.iter().all(|it| *it == 0);
        zero(&self.exits) && zero(&self.busy)
    }

    /// Adds it to a sum, place by place.
    pub(super) fn add_to(&self, sums: &mut [f32; TREND_SAMPLES], of: TrendMetric) {
        let samples = match of {
            TrendMetric::Exits => &self.exits,
            TrendMetric::Busy => &self.busy,
        };
        for (sum, sample) in sums.iter_mut().zip(samples) {
            *sum += unpack(*sample);
        }
    }
}

/// Rates are not negative, so anything above 0 stays above 0 unless it is below 1e-38.
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
    fn rates_are_kept_to_within_a_percent() {
        for rate in [0.0_f32, 0.01, 1.0, 59_812.0, 8e9] {
            let kept = unpack(pack(rate));
            assert!((rate - kept).abs() <= rate * 0.01, "{rate}: {kept}");
        }
    }

    #[test]
    fn a_row_takes_half_a_kilobyte() {
        assert_eq!(size_of::<Trend>(), 480);
    }
}
