//! Parses durations.

use std::time::Duration;

/// The longest duration: 100 years. In ns it fits into 63 bits, and a clock can be moved by it.
pub const MAX_DURATION: Duration = Duration::from_secs(876_000 * 3600);

/// Why text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not a number with a unit.
    #[error("give a number and a unit (ns, us, ms, s, m, h), such as 500ms, 10s or 1h")]
    Syntax,
    /// It is longer than [`MAX_DURATION`], or has a fraction of a nanosecond.
    #[error("give at most 876000h (100 years), in whole nanoseconds")]
    TooLong,
}

/// Parses a duration such as `500ms` or `1h 30m`, which may be zero.
///
/// # Errors
/// [`DurationError`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    // The messages of humantime are in terms of its grammar.
    match humantime::parse_duration(text) {
        Ok(duration) if duration > MAX_DURATION => Err(DurationError::TooLong),
        Ok(duration) => Ok(duration),
        Err(humantime::DurationError::NumberOverflow) => Err(DurationError::TooLong),
        Err(_) => Err(DurationError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_maximum() {
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("876000h"), Ok(MAX_DURATION));
        assert!(u64::try_from(MAX_DURATION.as_nanos()).is_ok_and(|ns| ns < 1 << 63));
        for text in [
            "876000h 1ns",
            "584y",
            "99999999999999h",
            "18446744073709551615h",
            "99999999999999999999999999h",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
        for text in ["", "1", "soon", "-1s", "1x"] {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax), "{text}");
        }
    }
}
