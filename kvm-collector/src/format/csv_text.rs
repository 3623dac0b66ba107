//! Text from outside in cells of CSV files.

use std::borrow::Cow;

use crate::outside_text::OutsideText;

/// First characters by which a spreadsheet takes a cell for a formula. In East Asian settings, these include the wide forms.
const FORMULA_STARTS: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

/// Returns the cell for a text: with escapes, like text on the terminal, and with a single quote in front if a spreadsheet would
/// execute it, as OWASP recommends. Ordinary text is returned unchanged, without an allocation if it is ASCII.
#[must_use]
pub fn csv_text(text: &str) -> Cow<'_, str> {
    let shown = OutsideText::new(text).escaped();
    if text.starts_with(FORMULA_STARTS) {
        Cow::Owned(format!("'{shown}"))
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_neutralised_and_control_characters_escaped() {
        for (text, cell) in [
            ("web-1", "web-1"),
            ("", ""),
            ("a=b", "a=b"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", r"'\t=1"),
            ("\r=1", r"'\r=1"),
            ("\n=1", r"'\n=1"),
            ("＝1", "'＝1"),
            ("＋1", "'＋1"),
            ("－1", "'－1"),
            ("＠1", "'＠1"),
            ("a\x1b[2J\u{202e}", r"a\x1b[2J\u{202e}"),
        ] {
            assert_eq!(csv_text(text), cell, "{text:?}");
        }
        assert!(matches!(csv_text("web-1"), Cow::Borrowed(_)));
    }
}
