//! Human-readable numbers. Only this module rounds.

/// Returns a count and its unit in singular or plural: `1 VM`, `2 VMs`, `1,234 processes`.
#[must_use]
pub fn plural(number: u64, unit: &str) -> String {
    let suffix = match number {
        1 => "",
        _ if unit.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {unit}{suffix}", count(number))
}

/// Formats a count with thousands separators: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a rate per second: as a whole number from 100 on, with one decimal from 1 on, and with
/// three decimals below.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^64"
)]
pub fn rate(per_s: f64) -> String {
    if per_s == 0.0 {
        "0".into()
    } else if per_s < 1.0 {
        format!("{per_s:.3}")
    } else if per_s < 100.0 {
        format!("{per_s:.1}")
    } else {
        count(per_s.round() as u64)
    }
}

/// Formats a duration with four significant digits in the largest unit in which it is at least 1:
/// `950 ns`, `12.35 us`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub fn duration(ns: u64) -> String {
    if ns < 1000 {
        return format!("{ns} ns");
    }
    let mut value = ns as f64 / 1e3;
    let mut unit = "us";
    for (next, factor) in [("ms", 1e3), ("s", 1e3)] {
        // A value that would round to 1000 gets the next unit.
        if value < 999.95 {
            break;
        }
        value /= factor;
        unit = next;
    }
    let decimals = match value {
        value if value < 9.9995 => 3,
        value if value < 99.995 => 2,
        _ => 1,
    };
    format!("{value:.decimals$} {unit}")
}

/// Formats a duration that is accurate to 5 % with two significant digits: `35 us`, `7.8 ms`, `380 us`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn rough_duration(ns: u64) -> String {
    let mut value = ns as f64;
    let mut unit = "ns";
    for next in ["us", "ms", "s"] {
        // A value that would round to 1000 gets the next unit.
        if value < 995.0 {
            break;
        }
        value /= 1e3;
        unit = next;
    }
    match value {
        value if unit != "ns" && value < 9.95 => format!("{value:.1} {unit}"),
        value if value < 99.5 => format!("{value:.0} {unit}"),
        value => format!("{:.0} {unit}", (value / 10.0).round() * 10.0),
    }
}

/// Formats a duration exactly, as a whole number of the largest possible unit: `10 ms`, `2500 us`.
#[must_use]
pub fn exact_duration(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    let unit = units
        .into_iter()
        .find(|(size, _)| ns >= *size && ns.is_multiple_of(*size));
    let (size, unit) = unit.unwrap_or((1, "ns"));
    format!("{} {unit}", ns / size)
}

/// Formats a ratio as a percentage with two decimals.
#[must_use]
pub fn percent(ratio: f64) -> String {
    format!("{:.2}%", ratio * 100.0)
}

/// Formats a ratio that is accurate to some percent as a percentage with two significant digits: `5.3%`, `52%`, `250%`.
#[must_use]
pub fn rough_percent(ratio: f64) -> String {
    match ratio * 100.0 {
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent if percent < 99.5 => format!("{percent:.0}%"),
        percent => format!("{:.0}%", (percent / 10.0).round() * 10.0),
    }
}

/// Formats a ratio as a percentage for a narrow column, with at most three significant digits and
/// without the percent sign: `100`, `12.3`, `1.23`, `0.05`.
///
/// Zero is `-`; a ratio that is not zero, but would round to 0, is `~0`.
#[must_use]
pub fn share(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent {
        it if it.is_nan() || it <= 0.0 => "-".into(),
        it if it < 0.005 => "~0".into(),
        it if it < 9.995 => format!("{it:.2}"),
        it if it < 99.95 => format!("{it:.1}"),
        it => format!("{it:.0}"),
    }
}

/// Formats a duration with three significant digits, for a column of six characters: `950ns`,
/// `12.3us`, `1.25ms`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn short_duration(ns: u64) -> String {
    if ns < 1000 {
        return format!("{ns}ns");
    }
    let mut value = ns as f64 / 1e3;
    let mut unit = "us";
    for (next, factor) in [("ms", 1e3), ("s", 1e3)] {
        if value < 999.5 {
            break;
        }
        value /= factor;
        unit = next;
    }
    three_digits(value) + unit
}

/// Formats a duration that is accurate to 5 % with two significant digits, for a column of six characters: `35us`, `7.8ms`.
#[must_use]
pub fn short_rough_duration(ns: u64) -> String {
    rough_duration(ns).replace(' ', "")
}

/// Formats a number from 1 to 1000 with three significant digits.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Formats a rate per second for a column of eight characters: as [`rate`], but with three significant
/// digits from a million on: `1.23M`.
#[must_use]
pub fn short_rate(per_s: f64) -> String {
    match per_s {
        it if it >= 999.5e6 => three_digits(it / 1e9) + "G",
        it if it >= 999_999.5 => three_digits(it / 1e6) + "M",
        it => rate(it),
    }
}

/// Formats an elapsed time in whole units, at most two of them: `42s`, `1m 23s`, `2h 5m`.
#[must_use]
pub fn elapsed(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// A size in MiB with one decimal.
#[expect(clippy::cast_precision_loss, reason = "rounded for display")]
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_have_the_largest_suitable_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.000 us"),
            (12_345, "12.35 us"),
            (999_960, "1.000 ms"),
            (1_500_000, "1.500 ms"),
            (65_000_000_000, "65.00 s"),
            (7_200_000_000_000, "7200.0 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn rough_durations_have_two_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (7, "7 ns"),
            (354, "350 ns"),
            (996, "1.0 us"),
            (7_754, "7.8 us"),
            (9_960, "10 us"),
            (353_400, "350 us"),
            (7_754_000, "7.8 ms"),
            (137_000_000_000, "140 s"),
        ] {
            assert_eq!(rough_duration(ns), text);
        }
    }

    #[test]
    fn rough_percentages_have_two_digits() {
        for (ratio, text) in [(0.053, "5.3%"), (0.5234, "52%"), (2.468, "250%")] {
            assert_eq!(rough_percent(ratio), text);
        }
    }

    #[test]
    fn exact_durations_are_not_rounded() {
        for (ns, text) in [
            (0, "0 ns"),
            (10_000_000, "10 ms"),
            (2_500_000, "2500 us"),
            (120_000_000_000, "120 s"),
            (1_000_001, "1000001 ns"),
        ] {
            assert_eq!(exact_duration(ns), text);
        }
    }

    #[test]
    fn rates_have_fewer_decimals_the_larger_they_are() {
        for (per_s, text) in [
            (0.0, "0"),
            (0.25, "0.250"),
            (12.34, "12.3"),
            (59812.4, "59,812"),
        ] {
            assert_eq!(rate(per_s), text);
        }
    }

    #[test]
    fn short_forms_fit_their_columns() {
        for (ratio, text) in [
            (0.0, "-"),
            (f64::NAN, "-"),
            (0.000_01, "~0"),
            (0.000_5, "0.05"),
            (0.099_96, "10.0"),
            (0.999_6, "100"),
            (8.0, "800"),
        ] {
            assert_eq!(share(ratio), text);
        }
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (12_345, "12.3us"),
            (999_600, "1.00ms"),
            (1_250_000, "1.25ms"),
            (65_000_000_000, "65.0s"),
        ] {
            assert_eq!(short_duration(ns), text);
        }
        for (ns, text) in [(999, "1.0us"), (12_345, "12us"), (1_250_000, "1.2ms")] {
            assert_eq!(short_rough_duration(ns), text);
        }
        for (per_s, text) in [
            (999_999.0, "999,999"),
            (999_999.9, "1.00M"),
            (12_345_678.0, "12.3M"),
            (1.5e9, "1.50G"),
        ] {
            assert_eq!(short_rate(per_s), text);
        }
        for (s, text) in [
            (59, "59s"),
            (83, "1m 23s"),
            (7500, "2h 5m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(elapsed(s * 1_000_000_000), text);
        }
    }
}
