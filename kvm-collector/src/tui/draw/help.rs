//! Draws the help: keys and columns, in a frame on top of the screen.

use ratatui::layout::Rect;

use super::{
    super::keys::HELP,
    canvas::{Canvas, TextRole, line, skip_cells, text_width},
};

const KEY_WIDTH: u16 = 15;

pub(super) fn draw(from: u16, (width, height): (u16, u16), canvas: &mut Canvas<'_>) {
    let longest = HELP.iter().map(|(_, meaning)| text_width(meaning)).max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    let lines = u16::try_from(HELP.len()).unwrap_or(u16::MAX);
    let wide = (KEY_WIDTH + longest + 4).min(width);
    let high = (lines + 4).min(height);
    let frame = Rect::new((width - wide) / 2, (height - high) / 2, wide, high);
    canvas.clear(frame);
    let [above_left, above_right, below_left, below_right] = canvas.symbols.corners;
    draw_edge(line(frame, 0), [above_left, above_right], canvas);
    let edge = line(frame, high.saturating_sub(1));
    draw_edge(edge, [below_left, below_right], canvas);
    let title = skip_cells(line(frame, 0), 2);
    canvas.text(title, " kvm-collector top ", TextRole::Heading);
    let inside = high.saturating_sub(2);
    // Do not scroll beyond the last line.
    let from = from.min(lines.saturating_sub(inside));
    for at in 0..inside {
        let area = line(frame, at + 1);
        canvas.text(area, canvas.symbols.vertical, TextRole::Dim);
        canvas.text_right(area, canvas.symbols.vertical, TextRole::Dim);
        let Some((key, meaning)) = HELP.get(usize::from(from + at)) else {
            continue;
        };
        let area = skip_cells(area, 2);
        let area = Rect {
            width: area.width.saturating_sub(2),
            ..area
        };
        let key_area = Rect {
            width: area.width.min(KEY_WIDTH - 1),
            ..area
        };
        canvas.text(key_area, key, TextRole::Strong);
        canvas.text(skip_cells(area, KEY_WIDTH), meaning, TextRole::Plain);
    }
    if inside < lines {
        let hint = skip_cells(line(frame, high.saturating_sub(1)), 2);
        canvas.text(hint, " j k: scroll ", TextRole::Dim);
    }
}

fn draw_edge(area: Rect, [left, right]: [&str; 2], canvas: &mut Canvas<'_>) {
    let middle = canvas
        .symbols
        .horizontal
        .repeat(usize::from(area.width.saturating_sub(2)));
    canvas.text(area, &format!("{left}{middle}{right}"), TextRole::Dim);
}
