//! Dates and times of day, in UTC. The script adds those of the reader's time zone.

use std::time::{Duration, UNIX_EPOCH};

/// Position of the time of day in a date and time, and the length without decimals.
const TIME_OFFSET: usize = "2026-11-25 ".len();
const SECONDS_LEN: usize = "2026-11-25 13:17:07".len();

/// Maximum number of decimals of a second: microseconds.
const MAX_DECIMALS: usize = 6;

/// Returns a `<time>` element with the date and the time of day, rounded down to so many decimals of a
/// second.
pub(super) fn date_and_time(wall_ns: u64, decimals: usize) -> String {
    element(wall_ns, 0, decimals)
}

/// Returns a `<time>` element with the time of day, rounded down to so many decimals of a second.
pub(super) fn time_of_day(wall_ns: u64, decimals: usize) -> String {
    element(wall_ns, TIME_OFFSET, decimals)
}

/// Returns whether two times are on the same day.
pub(super) fn is_same_day(wall_ns: u64, other_ns: u64) -> bool {
    const DAY_NS: u64 = 86_400_000_000_000;
    wall_ns / DAY_NS == other_ns / DAY_NS
}

/// Returns a `<time>` element with the text from `offset` on.
fn element(wall_ns: u64, offset: usize, decimals: usize) -> String {
    let time = UNIX_EPOCH + Duration::from_nanos(wall_ns);
    let iso = humantime::format_rfc3339_micros(time).to_string();
    let text = iso.replace('T', " ").replace('Z', "");
    let end = match decimals.min(MAX_DECIMALS) {
        0 => SECONDS_LEN,
        decimals => SECONDS_LEN + 1 + decimals,
    };
    let text = text.get(offset..end).unwrap_or(&text);
    format!("<time datetime=\"{iso}\">{text}</time>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        for (decimals, text) in [
            (0, "2026-11-25 13:17:08"),
            (3, "2026-11-25 13:17:08.613"),
            (9, "2026-11-25 13:17:08.613999"),
        ] {
            assert_eq!(
                date_and_time(1_795_612_628_613_999_999, decimals),
                format!("<time datetime=\"2026-11-25T13:17:08.613999Z\">{text}</time>")
            );
        }
        assert!(time_of_day(1_795_612_628_613_999_999, 0).contains(">13:17:08<"));
        // The largest time is in the year 2554.
        assert!(date_and_time(u64::MAX, 0).contains("2554"));
    }
}
