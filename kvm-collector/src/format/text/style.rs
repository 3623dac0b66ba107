//! Options for the appearance of text reports.

use crate::outside_text::OutsideText;

/// Appearance of text reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextStyle {
    /// Use colour and bold text (ANSI escape sequences).
    pub color: bool,
    /// Show events with a count of 0.
    pub show_zeros: bool,
    /// Maximum number of characters per line; tables omit columns that do not fit.
    pub max_width: Option<usize>,
}

impl TextStyle {
    /// Returns a line in bold, if there is colour. It may contain text from outside.
    pub(super) fn bold(self, line: &str) -> String {
        self.styled("\x1b[1m", line)
    }

    /// Returns a line in the colour of warnings, if there is colour. It may contain text from outside.
    pub(super) fn warning(self, line: &str) -> String {
        self.styled("\x1b[33m", line)
    }

    fn styled(self, sequence: &str, line: &str) -> String {
        let line = OutsideText::new(line).escaped();
        if self.color {
            format!("{sequence}{line}\x1b[0m")
        } else {
            line.into_owned()
        }
    }
}
