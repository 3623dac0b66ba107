//! Numbers as people read them; the only place that rounds.

/// A count with thousands set apart: `1,234,567`.
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

/// A rate per second: three significant digits below 100, whole above.
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

/// A duration in the unit that reads best, with four significant digits: `950 ns`, `12.35 us`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub fn duration(ns: u64) -> String {
    if ns < 1000 {
        return format!("{ns} ns");
    }
    let mut value = ns as f64 / 1e3;
    let mut unit = "us";
    for (next, factor) in [("ms", 1e3), ("s", 1e3)] {
        // What would round to 1000 belongs to the next unit.
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

/// A share as a percentage.
#[must_use]
pub fn percent(ratio: f64) -> String {
    format!("{:.2}%", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
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
    fn durations_take_the_unit_that_reads_best() {
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
    fn rates_keep_what_matters() {
        for (per_s, text) in [
            (0.0, "0"),
            (0.25, "0.250"),
            (12.34, "12.3"),
            (59812.4, "59,812"),
        ] {
            assert_eq!(rate(per_s), text);
        }
    }
}
