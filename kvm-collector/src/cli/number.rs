//! Parses whole numbers in a range. The errors name the range, also for text that is not a number.

use std::ops::RangeInclusive;

/// Parses a whole number in a range.
pub(super) fn parse_number(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = text.parse().ok().filter(|it| range.contains(it));
    number.ok_or_else(|| {
        let (first, last) = range.into_inner();
        match last {
            u32::MAX => format!("give a whole number, {first} or more"),
            _ => format!("give a whole number from {first} to {last}"),
        }
    })
}

/// Parses a number of rows or lines.
pub(super) fn parse_count(text: &str) -> Result<usize, String> {
    parse_number(text, 0..=u32::MAX).map(|it| it as usize)
}

/// Parses a maximum number of rows, which is not 0: a table without rows shows nothing.
pub(super) fn parse_row_limit(text: &str) -> Result<usize, String> {
    parse_number(text, 1..=u32::MAX).map(|it| it as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_range() {
        assert_eq!(parse_number("3", 1..=3), Ok(3));
        let range = Err("give a whole number from 1 to 3".to_owned());
        for text in ["", "foo", "-1", "0", "4", "1.5"] {
            assert_eq!(parse_number(text, 1..=3), range, "{text}");
        }
        let count = Err("give a whole number, 0 or more".to_owned());
        assert_eq!(parse_count("x"), count);
        assert_eq!(parse_row_limit("1"), Ok(1));
        let rows = Err("give a whole number, 1 or more".to_owned());
        assert_eq!(parse_row_limit("0"), rows);
    }
}
