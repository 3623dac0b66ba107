//! Appends text from outside and numbers in columns. `std::fmt` would take longer than the rest of a line.

use crate::outside_text::OutsideText;

/// Appends text, aligned to the right by its width on the terminal, and padded with spaces.
pub(super) fn text(line: &mut Vec<u8>, text: &str, width: usize) {
    let text = OutsideText::new(text);
    let fill = width.saturating_sub(text.width());
    line.resize(line.len() + fill, b' ');
    text.append_to(line);
}

/// Appends a decimal number, aligned to the right and padded with `fill`.
pub(super) fn number(line: &mut Vec<u8>, mut number: u64, width: usize, fill: u8) {
    // A u64 has at most 20 digits.
    let mut digits = [fill; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let start = at.min(digits.len().saturating_sub(width));
    line.extend_from_slice(&digits[start..]);
}

/// Appends a time in seconds with six decimals, aligned to the right.
pub(super) fn seconds(line: &mut Vec<u8>, ns: u64) {
    number(line, ns / 1_000_000_000, 6, b' ');
    line.push(b'.');
    number(line, ns / 1000 % 1_000_000, 6, b'0');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    proptest! {
        #[test]
        fn columns_are_the_same_as_with_std_fmt(
            value: u64, word in "[a-zA-Z0-9/ é]{0,24}", width in 0usize..20,
        ) {
            prop_assert_eq!(written(|it| number(it, value, width, b' ')), format!("{value:>width$}"));
            prop_assert_eq!(written(|it| number(it, value, width, b'0')), format!("{value:0>width$}"));
            prop_assert_eq!(written(|it| text(it, &word, width)), format!("{word:>width$}"));
            let (s, us) = (value / 1_000_000_000, value / 1000 % 1_000_000);
            prop_assert_eq!(written(|it| seconds(it, value)), format!("{s:>6}.{us:06}"));
        }
    }
}
