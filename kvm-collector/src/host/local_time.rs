//! Times of the local time zone.

use std::mem::MaybeUninit;

const SECONDS_PER_DAY: i64 = 86_400;

/// Converts a local date and time to seconds since the epoch. `as_utc_s` is the same date and time, read
/// as UTC. `None` if the C library cannot convert it.
#[must_use]
pub fn unix_time(as_utc_s: i64) -> Option<i64> {
    let mut time = local(0)?;
    (time.tm_year, time.tm_mon) = (70, 0);
    time.tm_mday = i32::try_from(as_utc_s.div_euclid(SECONDS_PER_DAY) + 1).ok()?;
    make(time, as_utc_s.rem_euclid(SECONDS_PER_DAY))
}

/// Returns the time of day `second_of_day`, `days` after the local day of `unix_s`, in seconds since the
/// epoch. `None` if the C library cannot convert it.
#[must_use]
pub fn time_of_day(unix_s: i64, days: i32, second_of_day: u32) -> Option<i64> {
    let mut time = local(unix_s)?;
    time.tm_mday = time.tm_mday.checked_add(days)?;
    make(time, second_of_day.into())
}

/// Splits a time into the fields of a local date and time.
fn local(unix_s: i64) -> Option<libc::tm> {
    unsafe extern "C" {
        /// Reads the time zone, which `localtime_r` need not do.
        safe fn tzset();
    }
    tzset();
    let mut time = MaybeUninit::uninit();
    // SAFETY: both pointers are valid, and `localtime_r` initializes the fields unless it returns null.
    unsafe {
        (!libc::localtime_r(&raw const unix_s, time.as_mut_ptr()).is_null())
            .then(|| time.assume_init())
    }
}

/// Returns the time of a date and a second of that day. The date may have any number of days.
fn make(mut time: libc::tm, second_of_day: i64) -> Option<i64> {
    time.tm_hour = i32::try_from(second_of_day / 3600).ok()?;
    time.tm_min = i32::try_from(second_of_day / 60 % 60).ok()?;
    time.tm_sec = i32::try_from(second_of_day % 60).ok()?;
    // The C library finds out whether daylight saving time applies.
    time.tm_isdst = -1;
    // SAFETY: the pointer is valid.
    let unix_s = unsafe { libc::mktime(&raw mut time) };
    // Before 1970 there are no recordings, so -1 is always the error.
    (unix_s != -1).then_some(unix_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-25T13:17:08Z.
    const TIME: i64 = 1_795_612_628;

    #[test]
    fn local_times_are_converted_back() {
        let fields = local(TIME).unwrap();
        let second_of_day = fields.tm_hour * 3600 + fields.tm_min * 60 + fields.tm_sec;
        let second_of_day = u32::try_from(second_of_day).unwrap();
        assert_eq!(time_of_day(TIME, 0, second_of_day), Some(TIME));
        let offset = fields.tm_gmtoff;
        assert_eq!(unix_time(TIME + offset), Some(TIME));
        let next_day = time_of_day(TIME, 1, second_of_day).unwrap();
        assert!((23..=25).contains(&((next_day - TIME) / 3600)));
    }
}
