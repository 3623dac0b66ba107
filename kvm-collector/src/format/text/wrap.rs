//! Breaks sentences into lines that fit into the width of the output. Tables and the lines of events are not broken.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::outside_text::OutsideText;

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
    for line in wrap(text, indent, style.max_width) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Writes a title in bold.
pub(super) fn write_title(text: &str, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for line in wrap(text, INDENT, style.max_width) {
        writeln!(out, "{}", style.bold(&line))?;
    }
    Ok(())
}

/// Writes a sentence in the colour of warnings.
pub(super) fn write_warning(text: &str, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for line in wrap(text, INDENT, style.max_width) {
        writeln!(out, "{}", style.warning(&line))?;
    }
    Ok(())
}

/// Splits text into lines of at most `max_width` columns. Lines after the first have a larger indentation. A longer word gets a
/// line of its own. Text from outside is escaped.
fn wrap(text: &str, indent: &str, max_width: Option<usize>) -> Vec<String> {
    let text = OutsideText::new(text).escaped();
    let max_width = max_width.unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    let mut width = indent.len();
    let mut has_word = false;
    for word in text.split(' ') {
        let word_width = OutsideText::new(word).width();
        if has_word && width.saturating_add(1 + word_width) > max_width {
            let next = format!("{indent}{INDENT}");
            width = next.len();
            lines.push(std::mem::replace(&mut line, next));
            has_word = false;
        }
        if has_word {
            line.push(' ');
            width += 1;
        }
        line.push_str(word);
        width += word_width;
        has_word = true;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_are_indented_behind_the_first() {
        let lines = wrap("one two three four", "  ", Some(11));
        assert_eq!(lines, ["  one two", "    three", "    four"]);
        let lines = wrap("one two three four", "  ", None);
        assert_eq!(lines, ["  one two three four"]);
        assert_eq!(
            wrap("one two", "  ", Some(0)),
            ["  one", "    two"],
            "a longer word has a line of its own"
        );
    }

    #[test]
    fn the_width_is_that_on_the_terminal() {
        // Each of these characters takes two columns.
        let lines = wrap("データ データ", "  ", Some(14));
        assert_eq!(lines, ["  データ", "    データ"]);
        let lines = wrap("データ データ", "  ", Some(15));
        assert_eq!(lines, ["  データ データ"]);
    }

    #[test]
    fn text_from_outside_is_escaped_before_it_is_measured() {
        let lines = wrap("a\nb \x1b[2J", "  ", Some(12));
        assert_eq!(lines, [r"  a\nb", r"    \x1b[2J"]);
    }
}
