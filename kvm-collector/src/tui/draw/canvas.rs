//! Writes text, which may be from outside, into cells of a buffer. Text is cut at the end of its area.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
};

use super::symbols::Symbols;
use crate::outside_text::OutsideText;

/// Meaning of a text, which determines its style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextRole {
    /// Normal text.
    Plain,
    /// Less important text, or a value with a caveat.
    Dim,
    /// Emphasized text.
    Strong,
    /// A heading.
    Heading,
    /// Heading of the column that rows are sorted by.
    Sorted,
    /// A reversed line: title, keys and cursor.
    Bar,
    /// A warning.
    Warning,
    /// Time in the guest.
    Guest,
    /// Time in the kernel.
    Kernel,
    /// Time in the VMM.
    Vmm,
    /// Idle time.
    Idle,
    /// Preempted time.
    Preempted,
    /// Bars of trends and histograms.
    Trend,
}

impl TextRole {
    pub(super) fn style(self, color: bool) -> Style {
        let plain = Style::new();
        let in_color = |it: Color| if color { plain.fg(it) } else { plain };
        match self {
            Self::Plain => plain,
            Self::Dim => plain.add_modifier(Modifier::DIM),
            Self::Strong => plain.add_modifier(Modifier::BOLD),
            Self::Heading => in_color(Color::Cyan).add_modifier(Modifier::BOLD),
            Self::Sorted => {
                in_color(Color::Cyan).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            }
            Self::Bar => plain.add_modifier(Modifier::REVERSED),
            Self::Warning => in_color(Color::Yellow).add_modifier(Modifier::BOLD),
            Self::Guest => in_color(Color::Green),
            Self::Kernel => in_color(Color::Red),
            Self::Vmm => in_color(Color::Yellow),
            Self::Idle => in_color(Color::Blue),
            Self::Preempted => in_color(Color::Magenta),
            Self::Trend => in_color(Color::Cyan),
        }
    }
}

/// A buffer to draw into.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) color: bool,
    pub(super) symbols: &'static Symbols,
}

impl Canvas<'_> {
    /// Writes text at the left of an area, cut to its width. Returns the width of the written text.
    pub(super) fn text(&mut self, area: Rect, text: &str, role: TextRole) -> u16 {
        let area = area.intersection(self.buffer.area);
        if area.is_empty() {
            return 0;
        }
        let style = role.style(self.color);
        let width = usize::from(area.width);
        let shown = OutsideText::new(text).escaped();
        let (end, _) = if text_width(text) <= width {
            self.buffer.set_stringn(area.x, area.y, shown, width, style)
        } else {
            let (x, y) = self
                .buffer
                .set_stringn(area.x, area.y, shown, width - 1, style);
            self.buffer
                .set_stringn(x, y, self.symbols.ellipsis, 1, style)
        };
        end - area.x
    }

    /// Writes text at the right of an area.
    pub(super) fn text_right(&mut self, area: Rect, text: &str, role: TextRole) {
        let width = u16::try_from(text_width(text)).unwrap_or(u16::MAX);
        let shift = area.width.saturating_sub(width);
        self.text(skip_cells(area, shift), text, role);
    }

    /// Writes texts in one line, separated by two spaces. Stops at the first text that does not fit.
    pub(super) fn text_list(&mut self, area: Rect, texts: &[(String, TextRole)]) {
        let mut left = area;
        for (index, (text, role)) in texts.iter().enumerate() {
            let width = u16::try_from(text_width(text)).unwrap_or(u16::MAX);
            // Always write the first text, cut if necessary.
            if width > left.width && index > 0 {
                return;
            }
            self.text(left, text, *role);
            left = skip_cells(left, width.saturating_add(2));
        }
    }

    /// Changes the style of an area and keeps its text.
    pub(super) fn apply_style(&mut self, area: Rect, role: TextRole) {
        let area = area.intersection(self.buffer.area);
        self.buffer.set_style(area, role.style(self.color));
    }

    /// Clears an area.
    pub(super) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for position in area.positions() {
            if let Some(cell) = self.buffer.cell_mut(position) {
                cell.reset();
            }
        }
    }
}

/// Returns an area without its first columns.
pub(super) fn skip_cells(area: Rect, cells: u16) -> Rect {
    let cells = cells.min(area.width);
    Rect {
        x: area.x + cells,
        width: area.width - cells,
        ..area
    }
}

/// Returns one line of an area; an empty area if there is no such line.
pub(super) fn line(area: Rect, index: u16) -> Rect {
    let inside = index < area.height;
    Rect {
        y: area.y.saturating_add(if inside { index } else { 0 }),
        height: u16::from(inside),
        ..area
    }
}

/// Returns the number of cells that a text needs.
pub(super) fn text_width(text: &str) -> usize {
    OutsideText::new(text).width()
}
