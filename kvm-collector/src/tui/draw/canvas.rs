//! Text into cells: never outside of its place, and cut where it does not fit.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Span,
};

/// What text means, and so how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextRole {
    Plain,
    /// What is not important, or not quite what it seems.
    Dim,
    Strong,
    /// A heading.
    Heading,
    /// What numbers are sorted by.
    Sorted,
    /// A line across the screen.
    Bar,
    Warning,
    Guest,
    Kernel,
    Vmm,
    Idle,
    Preempted,
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

/// Where it is drawn.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) color: bool,
}

impl Canvas<'_> {
    /// Writes text at a place's left end, cut to its width. Returns how wide it became.
    pub(super) fn text(&mut self, place: Rect, text: &str, look: TextRole) -> u16 {
        let place = place.intersection(self.buffer.area);
        if place.is_empty() {
            return 0;
        }
        let style = look.style(self.color);
        let width = usize::from(place.width);
        let (end, _) = if text_width(text) <= width {
            self.buffer
                .set_stringn(place.x, place.y, text, width, style)
        } else {
            let (x, y) = self
                .buffer
                .set_stringn(place.x, place.y, text, width - 1, style);
            self.buffer.set_stringn(x, y, "…", 1, style)
        };
        end - place.x
    }

    /// Writes text at a place's right end.
    pub(super) fn text_right(&mut self, place: Rect, text: &str, look: TextRole) {
        let width = u16::try_from(text_width(text)).unwrap_or(u16::MAX);
        let shift = place.width.saturating_sub(width);
        self.text(skip_cells(place, shift), text, look);
    }

    /// Writes one after the other what fits, with two spaces between: what does not fit is left out,
    /// with all that follows.
    pub(super) fn text_list(&mut self, place: Rect, words: &[(String, TextRole)]) {
        let mut left = place;
        for (index, (word, look)) in words.iter().enumerate() {
            let width = u16::try_from(text_width(word)).unwrap_or(u16::MAX);
            // The first one is there in any case, cut if need be.
            if width > left.width && index > 0 {
                return;
            }
            self.text(left, word, *look);
            left = skip_cells(left, width.saturating_add(2));
        }
    }

    /// Lays a look over what is there.
    pub(super) fn apply_style(&mut self, place: Rect, look: TextRole) {
        let place = place.intersection(self.buffer.area);
        self.buffer.set_style(place, look.style(self.color));
    }

    /// Takes away what is there.
    pub(super) fn clear(&mut self, place: Rect) {
        let place = place.intersection(self.buffer.area);
        for position in place.positions() {
            if let Some(cell) = self.buffer.cell_mut(position) {
                cell.reset();
            }
        }
    }
}

/// A place without its first cells.
pub(super) fn skip_cells(place: Rect, cells: u16) -> Rect {
    let cells = cells.min(place.width);
    Rect {
        x: place.x + cells,
        width: place.width - cells,
        ..place
    }
}

/// One line of a place; without height where the place has no such line.
pub(super) fn line(place: Rect, index: u16) -> Rect {
    let inside = index < place.height;
    Rect {
        y: place.y.saturating_add(if inside { index } else { 0 }),
        height: u16::from(inside),
        ..place
    }
}

/// How many cells text takes.
pub(super) fn text_width(text: &str) -> usize {
    Span::raw(text).width()
}
