//! Dates and times in the local time zone, for text that people read. Other formats use UTC.

use jiff::{Timestamp, Zoned};

use crate::host::local_time;

/// Formats a time as date, time in microseconds and zone: `2026-11-25 14:17:09.123456 CET`. `None` if it cannot be
/// represented.
#[must_use]
pub fn date_and_time(unix_ns: u64) -> Option<String> {
    let time = local(unix_ns)?;
    Some(time.strftime("%Y-%m-%d %H:%M:%S%.6f %Z").to_string())
}

/// Formats a time range in milliseconds: `2026-11-25 14:17:09.123 to 14:17:11.123 CET`. The date is repeated if the range ends on
/// another day. `None` if a time cannot be represented.
#[must_use]
pub fn range(start_unix_ns: u64, end_unix_ns: u64) -> Option<String> {
    let (start, end) = (local(start_unix_ns)?, local(end_unix_ns)?);
    // The zone's offset may change in the range.
    let start_format = match start.offset() == end.offset() {
        true => "%Y-%m-%d %H:%M:%S%.3f",
        false => "%Y-%m-%d %H:%M:%S%.3f %Z",
    };
    let end_format = match start.date() == end.date() {
        true => "%H:%M:%S%.3f %Z",
        false => "%Y-%m-%d %H:%M:%S%.3f %Z",
    };
    Some(format!(
        "{} to {}",
        start.strftime(start_format),
        end.strftime(end_format)
    ))
}

/// As [`range`], of two times in UTC (RFC 3339). `None` also for text that is no time.
#[must_use]
pub fn range_of_utc(start: &str, end: &str) -> Option<String> {
    range(unix_ns(start)?, unix_ns(end)?)
}

/// Formats a time in UTC (RFC 3339) as local date, time in milliseconds and zone. `None` also for text that is no time.
#[must_use]
pub fn of_utc(time: &str) -> Option<String> {
    let time = local(unix_ns(time)?)?;
    Some(time.strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string())
}

fn unix_ns(utc: &str) -> Option<u64> {
    let time: Timestamp = utc.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

fn local(unix_ns: u64) -> Option<Zoned> {
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(time.to_zoned(local_time::zone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_repeat_the_date_if_it_changes() {
        const DAY_NS: u64 = 86_400_000_000_000;
        let start_ns = 1_795_612_627_613_208_100;
        let same_day = range(start_ns, start_ns + 2_000_000_000).unwrap();
        let two_days = range(start_ns, start_ns + 2 * DAY_NS).unwrap();
        assert_eq!(same_day.matches("2026-").count(), 1, "{same_day}");
        assert_eq!(two_days.matches("2026-").count(), 2, "{two_days}");
        assert!(same_day.contains(":07.613 to ") && same_day.contains(":09.613 "));
        let utc = range_of_utc(
            "2026-11-25T13:17:07.613208100Z",
            "2026-11-25T13:17:09.613208100Z",
        );
        assert_eq!(utc.as_ref(), Some(&same_day));
        assert_eq!(range_of_utc("x", "2026-11-25T13:17:09Z"), None);
        let start = of_utc("2026-11-25T13:17:07.613208100Z").unwrap();
        assert!(same_day.starts_with(&start[..23]), "{start}");
        let time = date_and_time(start_ns).unwrap();
        assert!(time.contains(":07.613208 "), "{time}");
    }
}
