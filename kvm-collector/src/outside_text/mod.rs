//! Text from outside: names of VMs, threads, hosts and files, arguments, and everything that is read from a recording.
//!
//! Such text may contain anything: escape sequences that a terminal executes, line breaks that start a false line, characters
//! that reverse the text after them or that nobody sees. Human-readable output shows it only as [`OutsideText`]. JSON
//! has the exact text, and [`write_json`] escapes such characters in it. HTML, Parquet and Perfetto have the exact text, encoded as
//! these formats require.

mod escape;
mod json;
mod wrap;

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    ops::ControlFlow,
};

use escape::{for_each_piece, is_plain};
pub use json::write_json;
pub use wrap::wrap;

/// Maximum width of a name in text. Names that start equally are distinguished by ids beside them.
const MAX_NAME_WIDTH: usize = 64;

/// What a shortened text ends with. It is ASCII, because not every terminal shows more.
const ELLIPSIS: &str = "...";

/// Text from outside, which is displayed so that it can do no harm.
///
/// Characters that a terminal would execute, and characters that cannot be seen, are displayed as escapes, such as `\x1b` and
/// `\u{202e}`. Bytes that are not UTF-8 are displayed as `\xff`. Other text is displayed unchanged, so an escaped text is not
/// escaped again. A width in a format string is in columns of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideText<'a>(&'a [u8]);

impl<'a> OutsideText<'a> {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self(text.as_ref())
    }

    /// Returns the whole text with escapes. It is borrowed if it is plain ASCII.
    #[must_use]
    pub fn escaped(self) -> Cow<'a, str> {
        self.shortened(usize::MAX)
    }

    /// Returns the text with escapes, cut to the width of a name.
    #[must_use]
    pub fn as_name(self) -> Cow<'a, str> {
        self.shortened(MAX_NAME_WIDTH)
    }

    /// Returns the text with escapes, cut to a width in columns of the terminal. A cut text ends with `...`.
    #[must_use]
    pub fn shortened(self, max_width: usize) -> Cow<'a, str> {
        if self.0.len() <= max_width
            && is_plain(self.0)
            && let Ok(text) = std::str::from_utf8(self.0)
        {
            return Cow::Borrowed(text);
        }
        let mut text = String::new();
        let mut width = 0_usize;
        let mut cut_at = 0;
        let is_cut = for_each_piece(self.0, |piece, columns| {
            width += columns;
            if width > max_width {
                return ControlFlow::Break(());
            }
            text.push_str(piece);
            if width.saturating_add(ELLIPSIS.len()) <= max_width {
                cut_at = text.len();
            }
            ControlFlow::Continue(())
        })
        .is_break();
        if is_cut {
            text.truncate(cut_at);
            text.push_str(ELLIPSIS);
        }
        Cow::Owned(text)
    }

    /// Returns the text with escapes, cut at its start to a width in columns of the terminal. A cut text begins with `...`.
    #[must_use]
    pub fn shortened_at_start(self, max_width: usize) -> Cow<'a, str> {
        if self.width() <= max_width {
            return self.escaped();
        }
        let text = self.escaped();
        let mut width = ELLIPSIS.len();
        let mut start = text.len();
        for (at, letter) in text.char_indices().rev() {
            width += OutsideText::new(letter.encode_utf8(&mut [0; 4])).width();
            if width > max_width {
                break;
            }
            start = at;
        }
        Cow::Owned(format!("{ELLIPSIS}{}", &text[start..]))
    }

    /// Returns the number of columns of the terminal that the text with escapes needs.
    #[must_use]
    pub fn width(self) -> usize {
        if is_plain(self.0) {
            return self.0.len();
        }
        let mut width = 0;
        let _ = for_each_piece(self.0, |_, columns| {
            width += columns;
            ControlFlow::Continue(())
        });
        width
    }

    /// Appends the text with escapes.
    pub fn append_to(self, out: &mut Vec<u8>) {
        if is_plain(self.0) {
            out.extend_from_slice(self.0);
            return;
        }
        let _ = for_each_piece(self.0, |piece, _| {
            out.extend_from_slice(piece.as_bytes());
            ControlFlow::Continue(())
        });
    }
}

/// Replaces the end of a text, from the byte `start` on, by the same text with escapes. Allocates only if there is anything but
/// plain ASCII.
pub fn escape_end(text: &mut Vec<u8>, start: usize) {
    let Some(end) = text.get(start..).filter(|end| !is_plain(end)) else {
        return;
    };
    let end = end.to_vec();
    text.truncate(start);
    OutsideText(&end).append_to(text);
}

impl fmt::Display for OutsideText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = f.width().unwrap_or(0).saturating_sub(self.width());
        let (before, after) = match f.align() {
            Some(fmt::Alignment::Right) => (missing, 0),
            Some(fmt::Alignment::Center) => (missing / 2, missing.div_ceil(2)),
            Some(fmt::Alignment::Left) | None => (0, missing),
        };
        let fill = f.fill();
        for _ in 0..before {
            f.write_char(fill)?;
        }
        f.write_str(&self.escaped())?;
        for _ in 0..after {
            f.write_char(fill)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        OutsideText::new(text).to_string()
    }

    #[test]
    fn ordinary_text_is_unchanged() {
        for text in [
            "",
            "web-1",
            r"C:\x1b \n",
            "é",
            "データベース",
            "Бд",
            "e\u{301}",
        ] {
            assert_eq!(escaped(text), text);
        }
        assert!(matches!(
            OutsideText::new("CPU 0/KVM").escaped(),
            Cow::Borrowed("CPU 0/KVM")
        ));
    }

    #[test]
    fn paths_are_cut_at_their_start() {
        let cut = |text: &str, width| {
            OutsideText::new(text)
                .shortened_at_start(width)
                .into_owned()
        };
        assert_eq!(cut("hosts/a.data", 12), "hosts/a.data");
        assert_eq!(cut("hosts/a.data", 9), "...a.data");
        assert_eq!(cut("データ", 5), "...タ");
        assert_eq!(cut("abcdef", 3), "...");
    }

    #[test]
    fn control_characters_are_escaped() {
        for (text, shown) in [
            ("a\x1b[31mb", r"a\x1b[31mb"),
            ("a\nb\rc\td", r"a\nb\rc\td"),
            ("\0\x07\x7f", r"\x00\x07\x7f"),
            ("\u{9b}31m", r"\u{9b}31m"),
        ] {
            assert_eq!(escaped(text), shown);
        }
        for code in (0..0x20).chain(0x7f..0xa0) {
            let c = char::from_u32(code).unwrap();
            let text = escaped(&c.to_string());
            assert!(
                text.starts_with('\\') && text.is_ascii(),
                "{code:#x}: {text}"
            );
        }
    }

    #[test]
    fn characters_that_reorder_text_or_cannot_be_seen_are_escaped() {
        let ranges = [
            0xad..=0xad,
            0x61c..=0x61c,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x2069,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0xe0000..=0xe007f,
            0xe0100..=0xe01ef,
        ];
        for code in ranges.into_iter().flatten() {
            let c = char::from_u32(code).unwrap();
            assert_eq!(escaped(&format!("a{c}b")), format!("a\\u{{{code:x}}}b"));
        }
    }

    #[test]
    fn combining_characters_need_a_character_and_are_few() {
        assert_eq!(escaped("\u{301}a"), r"\u{301}a");
        assert_eq!(escaped(" \u{301}a"), " \\u{301}a");
        assert_eq!(escaped("\x1b\u{301}"), r"\x1b\u{301}");
        let stack = format!("a{}", "\u{301}".repeat(6));
        let shown = format!("a{}{}", "\u{301}".repeat(4), r"\u{301}".repeat(2));
        assert_eq!(escaped(&stack), shown);
    }

    #[test]
    fn invalid_utf8_is_escaped_byte_by_byte() {
        let text = OutsideText::new(b"a\x9b31m\xff\xc3");
        assert_eq!(text.to_string(), r"a\x9b31m\xff\xc3");
        assert_eq!(text.width(), 16);
    }

    #[test]
    fn widths_are_columns_of_the_terminal() {
        for (text, width) in [
            ("abc", 3),
            ("データ", 6),
            ("e\u{301}", 1),
            ("\x1b", 4),
            ("é", 1),
        ] {
            assert_eq!(OutsideText::new(text).width(), width, "{text:?}");
        }
        let text = OutsideText::new("データ");
        assert_eq!(format!("[{text:<8}]"), "[データ  ]");
        assert_eq!(format!("[{text:>8}]"), "[  データ]");
        assert_eq!(format!("[{text:^9}]"), "[ データ  ]");
        assert_eq!(format!("[{text:8}]"), "[データ  ]");
    }

    #[test]
    fn long_text_ends_with_an_ellipsis() {
        let shortened = |text: &str, width| OutsideText::new(text).shortened(width).into_owned();
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abc...");
        assert_eq!(shortened("データベース", 12), "データベース");
        assert_eq!(shortened("データベース", 11), "データベ...");
        assert_eq!(shortened("データベース", 10), "データ...");
        // An escape is shown as a whole or not at all.
        assert_eq!(shortened("ab\x1bcdef", 8), "ab...");
        assert_eq!(shortened(&"x".repeat(4096), 64).len(), 64);
        assert_eq!(
            shortened(&"e\u{301}".repeat(4096), 10),
            "e\u{301}".repeat(7) + "..."
        );
    }

    #[test]
    fn the_end_of_a_text_is_escaped_in_place() {
        let mut line = b"\x1b[1mevent: ".to_vec();
        let start = line.len();
        line.extend_from_slice(b"ok");
        escape_end(&mut line, start);
        assert_eq!(line, b"\x1b[1mevent: ok");
        line.extend_from_slice(b"\n\xff");
        escape_end(&mut line, start);
        assert_eq!(line, b"\x1b[1mevent: ok\\n\\xff");
        escape_end(&mut line, 1000);
    }

    proptest! {
        #[test]
        fn escaped_text_has_no_control_characters_and_is_not_escaped_again(
            bytes in prop::collection::vec(any::<u8>(), 0..40), text in "\\PC{0,20}|.{0,20}", max in 3usize..30,
        ) {
            for text in [OutsideText::new(&bytes), OutsideText::new(&text)] {
                let shown = text.to_string();
                prop_assert!(!shown.chars().any(char::is_control));
                prop_assert_eq!(OutsideText::new(&shown).to_string(), shown.clone());
                prop_assert_eq!(OutsideText::new(&shown).width(), text.width());
                let short = text.shortened(max);
                prop_assert!(OutsideText::new(&*short).width() <= max);
                let mut appended = Vec::new();
                text.append_to(&mut appended);
                prop_assert_eq!(appended, shown.into_bytes());
            }
        }
    }
}
