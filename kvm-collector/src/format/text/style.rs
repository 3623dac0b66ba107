//! Options for the appearance of text reports.

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
    pub(super) fn bold(self, text: &str) -> String {
        if self.color {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn warning(self, text: &str) -> String {
        if self.color {
            format!("\x1b[33m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
