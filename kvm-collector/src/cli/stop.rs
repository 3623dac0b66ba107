//! Options that end a measurement (after a time or with a command), and `--self`.

use std::time::Duration;

use clap::Args;

use super::usage::bail_usage;
use crate::{
    bounds,
    session::{OverheadMeter, StopConditions},
    source::TimeLimits,
};

/// Options that end a measurement.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Duration")]
pub(super) struct StopArgs {
    /// Stop after this time (500ms, 10s, 1h) [default: when CMD ends or at Ctrl-C]
    ///
    /// In a recording, the time starts at its first event, or at --from.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Run this command and stop when it ends
    ///
    /// All selected VMs are measured, not only those of the command.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl StopArgs {
    /// Returns the stop conditions of a live measurement.
    pub(super) fn conditions(&self) -> StopConditions {
        StopConditions {
            duration: self.duration,
            command: self.command.clone(),
        }
    }

    /// Returns the time limits for reading a recording.
    pub(super) fn limits(&self, interval: Option<Duration>) -> TimeLimits {
        TimeLimits {
            duration_ns: self.duration.map(saturating_ns),
            interval_ns: interval.map(saturating_ns),
            ..TimeLimits::default()
        }
    }
}

/// Converts a duration to nanoseconds. Saturates at the largest `u64`.
pub(super) fn saturating_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Parses a duration such as `500ms` or `1h`. Zero is an error.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    match bounds::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("a duration must be longer than 0".into()),
        other => other.map_err(|it| it.to_string()),
    }
}

/// Parses a time such as `500ms` or `1h`; zero is valid.
pub(super) fn parse_time(text: &str) -> Result<Duration, String> {
    bounds::parse_duration(text).map_err(|it| it.to_string())
}

/// The shortest interval of reports on a recording.
const MIN_INTERVAL: Duration = Duration::from_micros(1);

/// The shortest interval of reports on the running kernel, as with `perf stat -I`.
const MIN_LIVE_INTERVAL: Duration = Duration::from_millis(1);

/// Parses the time between two reports.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_time(text)? {
        interval if interval < MIN_INTERVAL => Err("give 1us or more, such as 100ms or 1s".into()),
        interval => Ok(interval),
    }
}

/// Checks that the running kernel can be read at this interval.
///
/// # Errors
/// When it is too short.
pub(super) fn check_live_interval(interval: Option<Duration>) -> anyhow::Result<()> {
    if interval.is_some_and(|it| it < MIN_LIVE_INTERVAL) {
        bail_usage!("-I must be 1ms or more, except with -i");
    }
    Ok(())
}

/// The option to report the overhead of the collector.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OverheadArgs {
    /// Report the overhead of the collector on stderr
    ///
    /// Shows the runs and the time of each eBPF program, and the CPU time and memory of the
    /// process. This adds about 50 ns to each program run.
    #[arg(long = "self", help_heading = "Output")]
    report_overhead: bool,
}

impl OverheadArgs {
    /// Starts measuring the overhead, if requested. Call it before programs are attached.
    pub(super) fn start(self) -> anyhow::Result<Option<OverheadMeter>> {
        self.report_overhead.then(OverheadMeter::start).transpose()
    }
}
