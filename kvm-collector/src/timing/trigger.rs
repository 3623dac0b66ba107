//! When the flight recorder writes: `exit > 1ms`.

use std::time::Duration;

use super::{Pairing, Replay, ReplayOptions, TimingError};
use crate::{model::StreamItem, tracefs::Format};

/// Watches a stream of events for an exit that takes longer than a time. Halted time does not count, as for
/// `exits --slow`.
#[derive(Debug)]
pub struct ExitTrigger {
    replay: Replay,
}

impl ExitTrigger {
    /// Parses how long an exit has to take, from text such as `exit > 1ms`.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let expected = || format!("expected `exit > TIME`, such as `exit > 1ms`, not `{text}`");
        let rest = text.trim().strip_prefix("exit").ok_or_else(expected)?;
        let time = rest.trim_start().strip_prefix('>').ok_or_else(expected)?;
        humantime::parse_duration(time.trim()).map_err(|error| format!("{}: {error}", expected()))
    }

    /// Makes a trigger for a stream of events of these formats.
    ///
    /// # Errors
    /// When events that exits are timed with are not among them.
    pub fn new(above: Duration, formats: &[Format]) -> Result<Self, TimingError> {
        let pairing = Pairing {
            slow: Some(above),
            ..Pairing::among(formats)
        };
        Ok(Self {
            replay: Replay::new(ReplayOptions {
                has_totals: false,
                ..ReplayOptions::new(pairing, formats)
            })?,
        })
    }

    /// Takes the next item. Did such an exit end with it?
    pub fn take(&mut self, item: &StreamItem<'_>) -> bool {
        self.replay.take(item);
        self.replay.slow_exits().count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_an_exit_longer_than_a_time() {
        assert_eq!(
            ExitTrigger::parse("exit > 1ms"),
            Ok(Duration::from_millis(1))
        );
        assert_eq!(
            ExitTrigger::parse(" exit>50us "),
            Ok(Duration::from_micros(50))
        );
        for text in ["", "exit", "exit 1ms", "entry > 1ms", "exit > soon"] {
            let error = ExitTrigger::parse(text).unwrap_err();
            assert!(error.contains("`exit > 1ms`"), "{error}");
        }
    }
}
