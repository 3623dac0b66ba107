//! What keys do and what columns mean, over everything else.

use ratatui::layout::Rect;

use super::{
    super::keys::HELP,
    canvas::{Canvas, Look, line, skip, width_of},
};

const KEY: u16 = 15;

pub(super) fn draw(from: u16, (width, height): (u16, u16), canvas: &mut Canvas<'_>) {
    let longest = HELP.iter().map(|(_, what)| width_of(what)).max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    let lines = u16::try_from(HELP.len()).unwrap_or(u16::MAX);
    let wide = (KEY + longest + 4).min(width);
    let high = (lines + 4).min(height);
    let frame = Rect::new((width - wide) / 2, (height - high) / 2, wide, high);
    canvas.clear(frame);
    edge(line(frame, 0), ['╭', '╮'], canvas);
    edge(line(frame, high.saturating_sub(1)), ['╰', '╯'], canvas);
    let title = skip(line(frame, 0), 2);
    canvas.text(title, " kvm-collector top ", Look::Heading);
    let inside = high.saturating_sub(2);
    // The last line is there to be seen, and nothing after it.
    let from = from.min(lines.saturating_sub(inside));
    for at in 0..inside {
        let place = line(frame, at + 1);
        canvas.text(place, "│", Look::Dim);
        canvas.text_right(place, "│", Look::Dim);
        let Some((key, what)) = HELP.get(usize::from(from + at)) else {
            continue;
        };
        let place = skip(place, 2);
        let place = Rect {
            width: place.width.saturating_sub(2),
            ..place
        };
        let key_place = Rect {
            width: place.width.min(KEY - 1),
            ..place
        };
        canvas.text(key_place, key, Look::Strong);
        canvas.text(skip(place, KEY), what, Look::Plain);
    }
    if inside < lines {
        let hint = skip(line(frame, high.saturating_sub(1)), 2);
        canvas.text(hint, " j k: more ", Look::Dim);
    }
}

fn edge(place: Rect, [left, right]: [char; 2], canvas: &mut Canvas<'_>) {
    let middle = "─".repeat(usize::from(place.width.saturating_sub(2)));
    canvas.text(place, &format!("{left}{middle}{right}"), Look::Dim);
}
