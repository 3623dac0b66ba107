//! Times of the local time zone.

use std::{env, fs, sync::OnceLock};

use jiff::{Span, Timestamp, Zoned, civil::Time, tz::TimeZone};

static ZONE: OnceLock<TimeZone> = OnceLock::new();

/// Returns the zone of the environment variable TZ or of `/etc/localtime`, or UTC if neither is usable.
///
/// It is read once, so that no file is needed later.
#[must_use]
pub fn zone() -> TimeZone {
    let read = || match env::var("TZ") {
        Ok(name) if names_other_file(&name) => TimeZone::UTC,
        _ => TimeZone::try_system().unwrap_or(TimeZone::UTC),
    };
    ZONE.get_or_init(read).clone()
}

/// Maximum size of the file of a time zone. The largest has 4 KB.
const MAX_ZONE_BYTES: u64 = 1 << 20;

/// Returns whether a value of TZ is the path of a file that is too large for a time zone, or has no end: a device or FIFO.
fn names_other_file(name: &str) -> bool {
    let path = name.strip_prefix(':').unwrap_or(name);
    let is_zone = |it: &fs::Metadata| it.is_file() && it.len() <= MAX_ZONE_BYTES;
    TimeZone::get(path).is_err() && fs::metadata(path).is_ok_and(|it| !is_zone(&it))
}

/// Converts a local date and time to seconds since the epoch. `as_utc_s` is the same date and time, read
/// as UTC. `None` if it cannot be represented.
#[must_use]
pub fn unix_time(as_utc_s: i64) -> Option<i64> {
    let as_utc = Timestamp::from_second(as_utc_s).ok()?;
    let civil = TimeZone::UTC.to_datetime(as_utc);
    Some(civil.to_zoned(zone()).ok()?.timestamp().as_second())
}

/// Returns the time of day `second_of_day`, `days` after the local day of `unix_s`, in seconds since the
/// epoch. `None` if it cannot be represented.
#[must_use]
pub fn time_of_day(unix_s: i64, days: i32, second_of_day: u32) -> Option<i64> {
    let date = local(unix_s)?.date();
    let date = date.checked_add(Span::new().try_days(days).ok()?).ok()?;
    let part = |number: u32| i8::try_from(number).ok();
    let (hour, minute, second) = (
        part(second_of_day / 3600)?,
        part(second_of_day / 60 % 60)?,
        part(second_of_day % 60)?,
    );
    let civil = date.to_datetime(Time::new(hour, minute, second, 0).ok()?);
    Some(civil.to_zoned(zone()).ok()?.timestamp().as_second())
}

fn local(unix_s: i64) -> Option<Zoned> {
    Some(Timestamp::from_second(unix_s).ok()?.to_zoned(zone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-25T13:17:08Z.
    const TIME: i64 = 1_795_612_628;

    #[test]
    fn devices_are_no_time_zones() {
        for other in ["/dev/zero", ":/dev/zero", "/", "/proc/self/exe"] {
            assert!(names_other_file(other), "{other}");
        }
        for name in ["", "UTC", "EST5EDT", ":/etc/localtime", "Asia/Nowhere"] {
            assert!(!names_other_file(name), "{name}");
        }
    }

    #[test]
    fn local_times_are_converted_back() {
        let fields = local(TIME).unwrap();
        let second_of_day = i32::from(fields.hour()) * 3600
            + i32::from(fields.minute()) * 60
            + i32::from(fields.second());
        let second_of_day = u32::try_from(second_of_day).unwrap();
        assert_eq!(time_of_day(TIME, 0, second_of_day), Some(TIME));
        let offset = i64::from(fields.offset().seconds());
        assert_eq!(unix_time(TIME + offset), Some(TIME));
        let next_day = time_of_day(TIME, 1, second_of_day).unwrap();
        assert!((23..=25).contains(&((next_day - TIME) / 3600)));
    }
}
