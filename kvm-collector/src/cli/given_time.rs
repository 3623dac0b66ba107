//! Times as options name them: since the start of a recording, of the clock of its events, or of the
//! day.

use std::path::Path;

use super::{
    stop::saturating_ns,
    usage::{UsageError, bail_usage},
};
use crate::{
    bounds::{DurationError, parse_duration},
    host::local_time,
    recording::Metadata,
    source::RecordingTime,
};

const NS_PER_S: u64 = 1_000_000_000;

/// A time as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GivenTime {
    pub(super) text: String,
    time: Time,
}

/// The kinds of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// In ns since the first event of the recording.
    SinceStart(u64),
    /// In ns of the clock of the events.
    OfClock(u64),
    /// In ns since the epoch.
    Date(u64),
    /// Local time of day, in ns since midnight.
    OfDay(u64),
}

/// Parses a time.
pub(super) fn parse_time(text: &str) -> Result<GivenTime, String> {
    let time = parse_since_start(text)
        .map(|it| it.map(Time::SinceStart))
        .or_else(|| {
            let seconds = text.strip_prefix('@').and_then(parse_seconds);
            seconds.map(|it| it.map(Time::OfClock))
        })
        .or_else(|| parse_time_of_day(text).map(|it| Ok(Time::OfDay(it))))
        .or_else(|| parse_date(text).map(|it| it.map(Time::Date)));
    match time {
        Some(time) => Ok(GivenTime {
            text: text.to_owned(),
            time: time?,
        }),
        None if parse_seconds(text).is_some() => Err(format!(
            "write {text}s for the time since the start of the recording, or @{text} for a time as `trace` prints it"
        )),
        None => Err(
            "write a time since the start of the recording (1.5s, 1500ms), a time of day (13:17:09.250), a date with time (2026-11-25T13:17:09, with Z for UTC), or @SECONDS as `trace` prints them"
                .to_owned(),
        ),
    }
}

/// The result of parsing text: `None` if it has another form, and an error if the time is out of range.
type Parsed<T> = Option<Result<T, String>>;

/// Parses `1.5s`, `1500ms`, `1m 30s` or `+2s`, in ns.
fn parse_since_start(text: &str) -> Parsed<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Some(ns) = text.strip_suffix('s').and_then(parse_seconds) {
        return Some(ns);
    }
    match parse_duration(text) {
        Ok(duration) => Some(Ok(saturating_ns(duration))),
        Err(DurationError::Syntax) => None,
        Err(error @ DurationError::TooLong) => Some(Err(error.to_string())),
    }
}

/// Parses decimal seconds, in ns. Digits after the ninth decimal are ignored.
fn parse_seconds(text: &str) -> Parsed<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let ns: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let whole_ns = whole.parse::<u64>().ok();
    let whole_ns = whole_ns.and_then(|it| it.checked_mul(NS_PER_S));
    let ns = whole_ns.and_then(|it| it.checked_add(ns));
    let ns = ns.filter(|it| *it < 1 << 63);
    // Times in recordings are below 2^63 ns.
    Some(ns.ok_or_else(|| "give at most 9223372036 s (292 years)".to_owned()))
}

/// Parses `13:17`, `13:17:09` or `13:17:09.250`, in ns since midnight.
fn parse_time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let mut number = |limit: u64| {
        let part = parts.next().filter(|it| (1..=2).contains(&it.len()))?;
        part.parse::<u64>().ok().filter(|it| *it < limit)
    };
    let (hours, minutes) = (number(24)?, number(60)?);
    let ns = parts.next().map_or(Some(0), |it| parse_seconds(it)?.ok())?;
    let is_valid = ns < 60 * NS_PER_S && parts.next().is_none();
    is_valid.then_some((hours * 60 + minutes) * 60 * NS_PER_S + ns)
}

/// Parses a date with a time, in ns since the epoch. Without a zone it is a local time.
fn parse_date(text: &str) -> Parsed<u64> {
    let date_chars = "2026-11-25T".len();
    let zone_at = text
        .get(date_chars..)?
        .find(['Z', 'z', '+', '-'])
        .map(|at| at + date_chars);
    let (civil, zone) = text.split_at(zone_at.unwrap_or(text.len()));
    let as_utc = humantime::parse_rfc3339_weak(civil).ok()?;
    let as_utc = as_utc.duration_since(std::time::UNIX_EPOCH).ok()?;
    let as_utc_s = i64::try_from(as_utc.as_secs()).ok()?;
    let unix_s = match zone {
        "" => local_time::unix_time(as_utc_s)?,
        "Z" | "z" => as_utc_s,
        zone => as_utc_s.checked_sub(parse_zone(zone)?)?,
    };
    let seconds_ns = u64::try_from(unix_s).ok();
    let seconds_ns = seconds_ns.and_then(|it| it.checked_mul(NS_PER_S));
    let ns = seconds_ns.and_then(|it| it.checked_add(as_utc.subsec_nanos().into()));
    Some(ns.ok_or_else(|| "give a date from 1970 to 2553".to_owned()))
}

/// Parses `+02:00` or `-0530`, in seconds east of UTC.
fn parse_zone(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replace(':', "");
    let is_valid = digits.len() == 4 && digits.bytes().all(|it| it.is_ascii_digit());
    let (hours, minutes) = digits.split_at_checked(2).filter(|_| is_valid)?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

impl GivenTime {
    /// Returns whether the time is one of the clock of the events.
    pub(super) fn is_of_clock(&self) -> bool {
        matches!(self.time, Time::OfClock(_))
    }

    /// Converts the time to one of a recording. `option` is the option that it is the value of.
    ///
    /// # Errors
    /// If it is a date, and the recording does not contain the date or covers the time of day more than
    /// once.
    pub(super) fn resolve(
        &self,
        option: &str,
        metadata: &Metadata,
        path: &Path,
    ) -> anyhow::Result<RecordingTime> {
        let text = &self.text;
        let wall_ns = match self.time {
            Time::SinceStart(ns) => return Ok(RecordingTime::SinceStart(ns)),
            Time::OfClock(ns) => return Ok(RecordingTime::OfClock(ns)),
            Time::Date(ns) => Some(ns),
            Time::OfDay(_) => None,
        };
        let Some((recording_wall_ns, event_ns)) = metadata.wall_and_event_ns() else {
            bail_usage!(
                "{option} {text}: {} does not contain the wall-clock time; recordings of `kvm-collector record` and `perf record -k mono` do. Use a time since its start (1.5s), or @SECONDS as `trace` prints them",
                path.display()
            );
        };
        let to_wall_ns = |ns: u64| ns.wrapping_sub(event_ns).wrapping_add(recording_wall_ns);
        let wall_ns = match (wall_ns, self.time) {
            (None, Time::OfDay(ns_of_day)) => {
                let samples = metadata
                    .sample_times_ns
                    .map(|(first_ns, last_ns)| (to_wall_ns(first_ns), to_wall_ns(last_ns)));
                let (first_ns, last_ns) = samples.unwrap_or((recording_wall_ns, recording_wall_ns));
                day_time(ns_of_day, first_ns, last_ns).ok_or_else(|| {
                    let message = format!(
                        "{option} {text}: {} covers more than one day: give the date too (2026-11-25T13:17:09)",
                        path.display()
                    );
                    UsageError(message)
                })?
            }
            (wall_ns, _) => wall_ns.unwrap_or_default(),
        };
        // A time before the clock's zero is before the recording as well.
        let ns =
            (i128::from(wall_ns) - i128::from(recording_wall_ns) + i128::from(event_ns)).max(0);
        Ok(RecordingTime::OfClock(
            u64::try_from(ns).unwrap_or(u64::MAX),
        ))
    }
}

/// Returns the time of day that is in a recording or nearest to it, in ns since the epoch. `None` if there
/// are several in the recording.
fn day_time(ns_of_day: u64, first_ns: u64, last_ns: u64) -> Option<u64> {
    let first_s = i64::try_from(first_ns / NS_PER_S).ok()?;
    let second_of_day = u32::try_from(ns_of_day / NS_PER_S).ok()?;
    let times = (-1..=2).filter_map(|days| {
        let unix_s = local_time::time_of_day(first_s, days, second_of_day)?;
        let ns = u64::try_from(unix_s).ok()?.checked_mul(NS_PER_S)?;
        Some(ns + ns_of_day % NS_PER_S)
    });
    let distance = |ns: u64| first_ns.saturating_sub(ns) + ns.saturating_sub(last_ns);
    let mut times: Vec<_> = times.map(|ns| (distance(ns), ns)).collect();
    times.sort_unstable();
    match times[..] {
        [(0, _), (0, _), ..] | [] => None,
        [(_, ns), ..] => Some(ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Time> {
        parse_time(text).ok().map(|it| it.time)
    }

    #[test]
    fn times_are_parsed() {
        let second = NS_PER_S;
        for (text, expected) in [
            ("0s", Time::SinceStart(0)),
            ("1.5s", Time::SinceStart(3 * second / 2)),
            ("1500ms", Time::SinceStart(3 * second / 2)),
            ("+2s", Time::SinceStart(2 * second)),
            ("1m 30s", Time::SinceStart(90 * second)),
            ("@5.000001", Time::OfClock(5 * second + 1000)),
            ("@5", Time::OfClock(5 * second)),
            ("13:17", Time::OfDay((13 * 60 + 17) * 60 * second)),
            (
                "13:17:09.250",
                Time::OfDay(((13 * 60 + 17) * 60 + 9) * second + second / 4),
            ),
            ("2026-11-25T13:17:08Z", Time::Date(1_795_612_628 * second)),
            (
                "2026-11-25T13:17:08.5Z",
                Time::Date(1_795_612_628 * second + second / 2),
            ),
            (
                "2026-11-25T15:17:08+02:00",
                Time::Date(1_795_612_628 * second),
            ),
            (
                "2026-11-25 07:47:08-0530",
                Time::Date(1_795_612_628 * second),
            ),
        ] {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "1",
            "1.5",
            "24:00",
            "13:60",
            "13:17:60",
            "1:2:3:4",
            "@",
            "@-1",
            "-1s",
            "1.s",
            "2026-11-25",
            "2026-11-25T13:17:08+2",
            "2026-13-25T13:17:08Z",
            "x",
            "é:00:00",
            "99999999999999s",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
        let local = local_time::unix_time(1_795_612_628).unwrap();
        let local_ns = u64::try_from(local).unwrap() * second;
        assert_eq!(time("2026-11-25T13:17:08"), Some(Time::Date(local_ns)));
        assert!(parse_time("1.5").unwrap_err().contains("@1.5"));
    }

    #[test]
    fn errors_name_the_latest_time() {
        let max_ns = 9_223_372_036 * NS_PER_S;
        assert_eq!(
            parse_time("@9223372036").unwrap().time,
            Time::OfClock(max_ns)
        );
        for (text, expected) in [
            ("@9223372037", "9223372036 s"),
            ("@99999999999999999999999", "9223372036 s"),
            ("9999999999999999999s", "9223372036 s"),
            ("99999999999999h", "876000h"),
            ("584y", "876000h"),
            ("9999-12-31T23:59:59Z", "from 1970 to 2553"),
        ] {
            let error = parse_time(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_time_of_day_is_that_of_the_recording() {
        let hour_ns = 3600 * NS_PER_S;
        let midnight_s = local_time::time_of_day(1_795_612_628, 0, 0).unwrap();
        let midnight_ns = u64::try_from(midnight_s).unwrap() * NS_PER_S;
        // A recording from 23:00 to 02:00.
        let (first_ns, last_ns) = (midnight_ns - hour_ns, midnight_ns + 2 * hour_ns);
        let day_time = |hour: u64, last_ns| day_time(hour * hour_ns, first_ns, last_ns);
        assert_eq!(day_time(23, last_ns), Some(first_ns));
        assert_eq!(day_time(1, last_ns), Some(midnight_ns + hour_ns));
        assert_eq!(day_time(22, last_ns), Some(midnight_ns - 2 * hour_ns));
        assert_eq!(day_time(3, last_ns), Some(midnight_ns + 3 * hour_ns));
        assert_eq!(day_time(23, last_ns + 24 * hour_ns), None);
    }
}
