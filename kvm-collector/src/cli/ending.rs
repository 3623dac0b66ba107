//! How long a measurement goes on: for a time, until a command ends, or until Ctrl-C.

use std::time::Duration;

use clap::Args;

use crate::{
    session::{Ending, OwnCost},
    source::TimeLimits,
};

/// How long it goes on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Duration")]
pub(super) struct EndingArgs {
    /// Measure for this long (500ms, 10s, 1h), with -i from the first event on; otherwise until CMD ends, or until Ctrl-C
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// Run this command, and go on until it ends. All VMs are watched, not only the command's
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl EndingArgs {
    /// When a live measurement ends.
    pub(super) fn ending(&self) -> Ending {
        Ending {
            duration: self.duration,
            command: self.command.clone(),
        }
    }

    /// How much of a recording is read.
    pub(super) fn limits(&self, interval: Option<Duration>) -> TimeLimits {
        TimeLimits {
            duration_ns: self.duration.map(ns),
            interval_ns: interval.map(ns),
        }
    }
}

/// A duration in nanoseconds; one that is too long is the longest there is.
pub(super) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as people write it; 0 is none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("a duration must be longer than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it as 500ms, 10s or 1h")),
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OwnArgs {
    /// In the end, also say on stderr what watching itself cost: each program's runs and time, this process's CPU
    /// time and memory. Counting runs makes each some 50 ns longer
    #[arg(long = "self", help_heading = "Output")]
    own: bool,
}

impl OwnArgs {
    /// Begins to count, if it is requested. To be called before programs are attached.
    pub(super) fn begin(self) -> anyhow::Result<Option<OwnCost>> {
        self.own.then(OwnCost::begin).transpose()
    }
}
