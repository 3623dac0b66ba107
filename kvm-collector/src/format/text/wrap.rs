//! Sentences, broken into lines that fit into the width of the output.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::outside_text::wrap;

/// Writes a sentence, indented as every line of a report.
pub(super) fn write_sentence(text: &str, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    write_indented(text, INDENT, style, out)
}

/// Writes a sentence behind a larger indentation.
pub(super) fn write_indented(
    text: &str,
    indent: &str,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    write_hanging(indent, text, &format!("{indent}{INDENT}"), style, out)
}

/// Writes text behind `first`. Lines after the first one start with `rest`.
///
/// # Errors
/// When writing fails.
pub fn write_hanging(
    first: &str,
    text: &str,
    rest: &str,
    style: TextStyle,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    for line in wrap(first, text, rest, style.max_width) {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes a title in bold.
pub(super) fn write_title(text: &str, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for line in lines(text, style) {
        writeln!(out, "{}", style.bold(&line))?;
    }
    Ok(())
}

/// Writes a sentence in the colour of warnings.
pub(super) fn write_warning(text: &str, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for line in lines(text, style) {
        writeln!(out, "{}", style.warning(&line))?;
    }
    Ok(())
}

/// Returns the lines of a sentence. Lines after the first one have a larger indentation.
fn lines(text: &str, style: TextStyle) -> Vec<String> {
    wrap(INDENT, text, &INDENT.repeat(2), style.max_width)
}
