//! Symbols of the screen, in Unicode and in ASCII.

/// The symbols that the screen draws with.
#[derive(Debug)]
pub(super) struct Symbols {
    /// Marks the sort column if the largest values come first.
    pub(super) descending: &'static str,
    /// Marks the sort column if the smallest values come first.
    pub(super) ascending: &'static str,
    /// The end of a text that is cut.
    pub(super) ellipsis: &'static str,
    /// The cursor of the filter prompt.
    pub(super) cursor: &'static str,
    /// A vertical line.
    pub(super) vertical: &'static str,
    /// A horizontal line.
    pub(super) horizontal: &'static str,
    /// The corners of a frame: above left, above right, below left, below right.
    pub(super) corners: [&'static str; 4],
    /// The bars of a trend, from the lowest to the highest.
    pub(super) levels: [char; 8],
    /// Parts of a cell of a horizontal bar, from the smallest to the whole cell. All have the same size.
    pub(super) parts: &'static [char],
}

/// For terminals that show UTF-8.
pub(super) const UNICODE: Symbols = Symbols {
    descending: "▼",
    ascending: "▲",
    ellipsis: "…",
    cursor: "▏",
    vertical: "│",
    horizontal: "─",
    corners: ["╭", "╮", "╰", "╯"],
    levels: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    parts: &['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'],
};

/// For all other terminals.
pub(super) const ASCII: Symbols = Symbols {
    descending: "v",
    ascending: "^",
    ellipsis: "~",
    cursor: "_",
    vertical: "|",
    horizontal: "-",
    corners: ["+", "+", "+", "+"],
    levels: ['.', ':', '-', '=', '+', '*', '#', '@'],
    parts: &['#'],
};

impl Symbols {
    /// Returns the symbols for a terminal that shows Unicode or only ASCII.
    pub(super) fn new(unicode: bool) -> &'static Self {
        if unicode { &UNICODE } else { &ASCII }
    }

    /// Returns a bar of up to `width` cells. A share above zero is always visible.
    pub(super) fn bar(&self, share: f64, width: u16) -> String {
        let parts = self.parts.len();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "from 0 to eight times a width"
        )]
        let length = (share.clamp(0.0, 1.0) * f64::from(width) * parts as f64).ceil() as usize;
        let whole = self.parts[parts - 1];
        let mut bar = String::from_iter(std::iter::repeat_n(whole, length / parts));
        if let Some(part) = (length % parts).checked_sub(1) {
            bar.push(self.parts[part]);
        }
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_smallest_share() {
        for (share, width, unicode, ascii) in [
            (0.0, 10, "", ""),
            (0.0001, 10, "▏", "#"),
            (0.5, 3, "█▌", "##"),
            (1.0, 3, "███", "###"),
            (f64::NAN, 3, "", ""),
        ] {
            assert_eq!(UNICODE.bar(share, width), unicode);
            assert_eq!(ASCII.bar(share, width), ascii);
        }
    }
}
