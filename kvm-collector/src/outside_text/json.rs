//! JSON that can be shown on a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::escape::{is_hidden, is_plain};

/// Writes an object as JSON. Characters of its strings that cannot be seen, change the order of others or control a terminal are
/// escaped (`\u009b`), so that the strings keep their exact value.
///
/// # Errors
/// When writing fails, or the object has keys that JSON cannot have.
pub fn write_json(object: &(impl Serialize + ?Sized), out: impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, EscapeHidden);
    Ok(object.serialize(&mut serializer)?)
}

/// Compact JSON. Besides what JSON requires, it escapes hidden characters.
struct EscapeHidden;

impl Formatter for EscapeHidden {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if is_plain(fragment.as_bytes()) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut written = 0;
        for (start, c) in fragment.char_indices().filter(|(_, c)| is_hidden(*c)) {
            writer.write_all(&fragment.as_bytes()[written..start])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = start + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_exactly() {
        for (text, json) in [
            ("web-1", r#""web-1""#),
            ("a\u{9b}31mX", r#""a\u009b31mX""#),
            ("\u{7f}\u{202e}é\u{2800}", r#""\u007f\u202eé\u2800""#),
            ("\x1b[31m\"\n", r#""\u001b[31m\"\n""#),
            ("\u{e0001}x", r#""\udb40\udc01x""#),
        ] {
            let mut out = Vec::new();
            write_json(text, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), json);
            assert_eq!(serde_json::from_str::<String>(json).unwrap(), text);
        }
    }
}
