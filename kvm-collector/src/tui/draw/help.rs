//! What keys do and what columns mean, over everything else.

use ratatui::layout::Rect;

use super::{
    super::keys::HELP,
    canvas::{Canvas, TextRole, line, skip_cells, text_width},
};

const KEY_WIDTH: u16 = 15;

pub(super) fn draw(from: u16, (width, height): (u16, u16), canvas: &mut Canvas<'_>) {
    let longest = HELP.iter().map(|(_, what)| text_width(what)).max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    let lines = u16::try_from(HELP.len()).unwrap_or(u16::MAX);
    let wide = (KEY_WIDTH + longest + 4).min(width);
    let high = (lines + 4).min(height);
    let frame = Rect::new((width - wide) / 2, (height - high) / 2, wide, high);
    canvas.clear(frame);
    draw_edge(line(frame, 0), ['╭', '╮'], canvas);
    draw_edge(line(frame, high.saturating_sub(1)), ['╰', '╯'], canvas);
    let title = skip_cells(line(frame, 0), 2);
    canvas.text(title, " kvm-collector top ", TextRole::Heading);
    let inside = high.saturating_sub(2);
    // The last line is there to be seen, and nothing after it.
    let from = from.min(lines.saturating_sub(inside));
    for at in 0..inside {
        let place = line(frame, at + 1);
        canvas.text(place, "│", TextRole::Dim);
        canvas.text_right(place, "│", TextRole::Dim);
        let Some((key, what)) = HELP.get(usize::from(from + at)) else {
            continue;
        };
        let place = skip_cells(place, 2);
        let place = Rect {
            width: place.width.saturating_sub(2),
            ..place
        };
        let key_place = Rect {
            width: place.width.min(KEY_WIDTH - 1),
            ..place
        };
        canvas.text(key_place, key, TextRole::Strong);
        canvas.text(skip_cells(place, KEY_WIDTH), what, TextRole::Plain);
    }
    if inside < lines {
        let hint = skip_cells(line(frame, high.saturating_sub(1)), 2);
        canvas.text(hint, " j k: more ", TextRole::Dim);
    }
}

fn draw_edge(place: Rect, [left, right]: [char; 2], canvas: &mut Canvas<'_>) {
    let middle = "─".repeat(usize::from(place.width.saturating_sub(2)));
    canvas.text(place, &format!("{left}{middle}{right}"), TextRole::Dim);
}
