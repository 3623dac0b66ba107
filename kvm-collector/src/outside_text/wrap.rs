//! Breaks text into lines that fit into a width.

use std::ops::ControlFlow;

use super::escape::for_each_piece;

/// Splits text into lines of at most `max_width` columns. The first line starts with `first`, which is shown as it is, the others
/// with `rest`. A longer word gets a line of its own. The text may be from outside: it is escaped.
#[must_use]
pub fn wrap(first: &str, text: &str, rest: &str, max_width: Option<usize>) -> Vec<String> {
    let text = escaped(text);
    let max_width = max_width.unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut width = width_of(first);
    let mut has_word = false;
    for word in text.split(' ') {
        let word_width = width_of(word);
        if has_word && width.saturating_add(1 + word_width) > max_width {
            width = width_of(rest);
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
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

/// Returns a text with escapes.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    let _ = for_each_piece(text.as_bytes(), |piece, _| {
        shown.push_str(piece);
        ControlFlow::Continue(())
    });
    shown
}

/// Returns the number of columns of the terminal that a text with escapes needs.
fn width_of(text: &str) -> usize {
    let mut width = 0;
    let _ = for_each_piece(text.as_bytes(), |_, columns| {
        width += columns;
        ControlFlow::Continue(())
    });
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_are_indented() {
        let lines = wrap("  ", "one two three four", "    ", Some(11));
        assert_eq!(lines, ["  one two", "    three", "    four"]);
        let lines = wrap("  ", "one two three four", "    ", None);
        assert_eq!(lines, ["  one two three four"]);
        assert_eq!(
            wrap("a: ", "one two", "   ", Some(0)),
            ["a: one", "   two"],
            "a longer word has a line of its own"
        );
    }

    #[test]
    fn the_width_is_that_on_the_terminal() {
        // Each of these characters takes two columns.
        let lines = wrap("  ", "データ データ", "    ", Some(14));
        assert_eq!(lines, ["  データ", "    データ"]);
        let lines = wrap("  ", "データ データ", "    ", Some(15));
        assert_eq!(lines, ["  データ データ"]);
    }

    #[test]
    fn text_from_outside_is_escaped_before_it_is_measured() {
        let lines = wrap("  ", "a\nb \x1b[2J", "    ", Some(12));
        assert_eq!(lines, [r"  a\nb", r"    \x1b[2J"]);
    }
}
