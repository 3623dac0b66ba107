//! The trigger of the flight recorder, such as `exit > 1ms`.

use std::time::Duration;

use kvm_ebpf_common::SlowExit;

use super::{Replay, ReplayOptions, TimingError, TimingRequest};
use crate::{
    bounds::{DurationError, parse_duration},
    model::StreamItem,
    tracefs::Format,
};

/// Detects exits in a stream of events that take longer than a threshold. Halted time does not
/// count, as for `exits --slow`.
#[derive(Debug)]
pub struct ExitTrigger {
    replay: Replay,
}

impl ExitTrigger {
    /// Parses the threshold from text such as `exit > 1ms`.
    ///
    /// # Errors
    /// A message that says what was expected.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let expected = || format!("expected `exit > TIME`, such as `exit > 1ms`, not `{text}`");
        let rest = text.trim().strip_prefix("exit").ok_or_else(expected)?;
        let time = rest.trim_start().strip_prefix('>').ok_or_else(expected)?;
        parse_duration(time.trim()).map_err(|error| match error {
            DurationError::Syntax => expected(),
            error @ DurationError::TooLong => error.to_string(),
        })
    }

    /// Creates a trigger for a stream of events with these formats.
    ///
    /// # Errors
    /// [`TimingError`] if the formats lack an event or a field that is needed to time exits.
    pub fn new(threshold: Duration, formats: &[Format]) -> Result<Self, TimingError> {
        let request = TimingRequest {
            slow_threshold: Some(threshold),
            ..TimingRequest::from_formats(formats)
        };
        Ok(Self {
            replay: Replay::new(ReplayOptions {
                collects_totals: false,
                ..ReplayOptions::new(request, formats)
            })?,
        })
    }

    /// Adds the next item of the stream. Returns the exit above the threshold that ended with it.
    pub fn add_item(&mut self, item: &StreamItem<'_>) -> Option<SlowExit> {
        self.replay.add_item(item);
        self.replay.drain_slow_exits().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_is_parsed_from_an_exit_and_a_threshold() {
        assert_eq!(
            ExitTrigger::parse("exit > 1ms"),
            Ok(Duration::from_millis(1))
        );
        assert_eq!(
            ExitTrigger::parse(" exit>50us "),
            Ok(Duration::from_micros(50))
        );
        let error = ExitTrigger::parse("exit > 584y").unwrap_err();
        assert!(error.contains("at most 876000h"), "{error}");
        for text in ["", "exit", "exit 1ms", "entry > 1ms", "exit > soon"] {
            let error = ExitTrigger::parse(text).unwrap_err();
            assert!(error.contains("`exit > 1ms`"), "{error}");
        }
    }
}
