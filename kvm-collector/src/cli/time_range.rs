//! `--from` and `--until`: the time range of a recording that is read.

use std::{fmt, path::Path};

use clap::Args;

use super::{
    given_time::{GivenTime, parse_time},
    usage::{UsageError, bail_usage},
};
use crate::{
    recording::Metadata,
    source::{RecordingSummary, RecordingTime, TimeLimits},
    view::SelectedBy,
};

const NS_PER_S: u64 = 1_000_000_000;

/// The options that select a time range of a recording. `TO` makes `--to` an alias of `--until`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Duration")]
pub(super) struct RangeArgs<const TO: bool = true> {
    /// Read a recording from this time on: 1.5s (since its first event), 13:17:09, or @SECONDS as
    /// `trace` prints them
    ///
    /// A time of day or a date with time (2026-11-25T13:17:09) is in the local time zone, unless it
    /// has another one (Z, +02:00). Exits are counted where they start; their time counts where
    /// they end, as with -I.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<GivenTime>,

    /// Read a recording up to this time, which is not included
    #[arg(long, value_name = "TIME", value_parser = parse_time,
          visible_aliases = if TO { &["to"][..] } else { &[] })]
    until: Option<GivenTime>,
}

impl<const TO: bool> RangeArgs<TO> {
    /// Returns whether no option was given.
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_none() && self.until.is_none()
    }

    /// Checks that the options are not given without a recording.
    ///
    /// # Errors
    /// When one is.
    pub(super) fn check_has_input(&self, has_input: bool) -> anyhow::Result<()> {
        let options = [("--from", &self.from), ("--until", &self.until)];
        let given = options.into_iter().find(|(_, time)| time.is_some());
        match given {
            Some((option, _)) if !has_input => {
                bail_usage!("{option} needs -i FILE: it selects a part of a recording")
            }
            _ => Ok(()),
        }
    }

    /// Adds the values of these options to what is selected.
    pub(super) fn add_to(&self, selected_by: SelectedBy) -> SelectedBy {
        let text = |given: &Option<GivenTime>| given.as_ref().map(|it| it.text.clone());
        SelectedBy {
            from: text(&self.from),
            until: text(&self.until),
            ..selected_by
        }
    }

    /// Adds the range to the limits of reading a recording.
    ///
    /// # Errors
    /// If a time is a date, and the recording does not contain the date; or if the end is before the
    /// start.
    pub(super) fn apply(
        &self,
        limits: TimeLimits,
        metadata: &Metadata,
        path: &Path,
    ) -> anyhow::Result<TimeLimits> {
        let resolve = |option: &str, given: &Option<GivenTime>| {
            let given = given.as_ref();
            given
                .map(|it| it.resolve(option, metadata, path))
                .transpose()
        };
        let limits = TimeLimits {
            from: resolve("--from", &self.from)?,
            until: resolve("--until", &self.until)?,
            ..limits
        };
        let is_reversed = match (limits.from, limits.until) {
            (Some(RecordingTime::SinceStart(from)), Some(RecordingTime::SinceStart(until)))
            | (Some(RecordingTime::OfClock(from)), Some(RecordingTime::OfClock(until))) => {
                // Dates before the zero of the clock are 0.
                from >= until && until > 0
            }
            _ => false,
        };
        if is_reversed {
            bail_usage!("{self} is empty: --until must be later than --from");
        }
        Ok(limits)
    }

    /// Checks that the range can be that of several recordings.
    ///
    /// # Errors
    /// If a time is one of the clock of the events, which is another one on each host.
    pub(super) fn check_for_several(&self) -> anyhow::Result<()> {
        let mut given = [&self.from, &self.until].into_iter().flatten();
        match given.find(|it| it.is_of_clock()) {
            Some(time) => bail_usage!(
                "{} cannot be used with several recordings: each host has its own clock. Use the time of day, a date with time, or the time since the start of each recording (1.5s)",
                time.text
            ),
            None => Ok(()),
        }
    }

    /// Checks that the range has started in the recording.
    ///
    /// # Errors
    /// If the whole range is before the first or after the last event.
    pub(super) fn check(
        &self,
        summary: &RecordingSummary,
        wall_offset_ns: Option<u64>,
        path: &Path,
    ) -> anyhow::Result<()> {
        let Some((first_ns, last_ns)) = summary.outside else {
            return Ok(());
        };
        let mut covers = format!(
            "0s to {}s, which is @{} to @{}",
            seconds(last_ns - first_ns),
            seconds(first_ns),
            seconds(last_ns)
        );
        if let Some(offset_ns) = wall_offset_ns {
            let date = |ns: u64| {
                let wall_ns = std::time::Duration::from_nanos(offset_ns.wrapping_add(ns));
                let time = std::time::UNIX_EPOCH.checked_add(wall_ns);
                time.map_or_else(String::new, |it| {
                    humantime::format_rfc3339_nanos(it).to_string()
                })
            };
            covers += &format!(" or {} to {}", date(first_ns), date(last_ns));
        }
        let message = format!(
            "{self} is outside of {}, whose events are from {covers}",
            path.display()
        );
        Err(UsageError(message).into())
    }
}

impl<const TO: bool> fmt::Display for RangeArgs<TO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [("--from", &self.from), ("--until", &self.until)];
        let mut separator = "";
        for (option, given) in options {
            if let Some(given) = given {
                write!(f, "{separator}{option} {}", given.text)?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// Formats a time in seconds, exactly.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / NS_PER_S, ns % NS_PER_S)
}
