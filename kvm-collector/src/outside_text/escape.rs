//! Decides which characters of a text are escaped, and splits a text into characters and escapes.

use std::{
    fmt::Write as _,
    ops::{ControlFlow, RangeInclusive},
};

use unicode_width::UnicodeWidthChar as _;

/// Maximum number of combining characters on one character. Vietnamese and Hebrew need three; more cover the lines above.
const MAX_COMBINING: usize = 4;

/// Characters that cannot be seen or that change the order of others: `Default_Ignorable_Code_Point` and the format characters
/// (general category `Cf`) of Unicode 16 without the marks of numbers, and the separators of lines and paragraphs. Also U+2800, a
/// Braille character without a dot.
const HIDDEN: [RangeInclusive<u32>; 21] = [
    0xad..=0xad,
    0x34f..=0x34f,
    0x61c..=0x61c,
    0x115f..=0x1160,
    0x17b4..=0x17b5,
    0x180b..=0x180f,
    0x200b..=0x200f,
    0x2028..=0x202e,
    0x2060..=0x206f,
    0x2800..=0x2800,
    0x3164..=0x3164,
    0xfe00..=0xfe0f,
    0xfeff..=0xfeff,
    0xffa0..=0xffa0,
    0xfff0..=0xfffb,
    0x110bd..=0x110bd,
    0x110cd..=0x110cd,
    0x13430..=0x1343f,
    0x1bca0..=0x1bca3,
    0x1d173..=0x1d17a,
    0xe0000..=0xe0fff,
];

/// Returns whether a text is printable ASCII, so that it is shown as it is, with a column per byte.
pub(super) fn is_plain(text: &[u8]) -> bool {
    // Without an early end, the compiler checks many bytes at once.
    text.iter().fold(true, |is_plain, byte| {
        is_plain & matches!(byte, b' '..=b'~')
    })
}

pub(super) fn is_hidden(c: char) -> bool {
    c.is_control() || HIDDEN.iter().any(|range| range.contains(&c.into()))
}

/// Passes each character or escape to `each`, with the number of columns that it needs, until `each` breaks.
pub(super) fn for_each_piece(
    text: &[u8],
    mut each: impl FnMut(&str, usize) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut piece = String::new();
    // Combining characters that the last character can still have.
    let mut combining_left = 0;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let width = c.width().unwrap_or(0);
            piece.clear();
            if is_hidden(c) || (width == 0 && combining_left == 0) {
                push_escape(&mut piece, c);
                combining_left = 0;
                each(&piece, piece.len())?;
                continue;
            }
            combining_left = match (width, c) {
                (0, _) => combining_left - 1,
                // On a space, it would look like part of the character before.
                (_, ' ') => 0,
                _ => MAX_COMBINING,
            };
            piece.push(c);
            each(&piece, width)?;
        }
        for byte in chunk.invalid() {
            piece.clear();
            push_hex(&mut piece, u32::from(*byte));
            combining_left = 0;
            each(&piece, piece.len())?;
        }
    }
    ControlFlow::Continue(())
}

/// Appends an escape as Rust and C write it.
fn push_escape(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii() => push_hex(out, c.into()),
        c => {
            // Writing to a string does not fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

fn push_hex(out: &mut String, byte: u32) {
    // Writing to a string does not fail.
    let _ = write!(out, "\\x{byte:02x}");
}
