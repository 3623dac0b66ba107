//! Draws the table: headings and rows.

use ratatui::layout::Rect;

use super::{
    super::{App, Sort},
    canvas::{Canvas, TextRole, line, skip_cells, text_width},
    columns::{Columns, row_label},
    sparkline,
};
use crate::view::{TopRow, TrendMetric};

/// Draws the headings and the visible rows.
pub(super) fn draw(app: &App, header: Rect, rows: Rect, canvas: &mut Canvas<'_>) {
    let columns = Columns::fit(app, rows.width);
    draw_header(app, &columns, header, canvas);
    let offset = app.level().offset;
    let shown = app.rows.iter().enumerate().skip(offset);
    let cursor = app.cursor();
    for ((index, row), at) in shown.zip(0..rows.height) {
        let area = line(rows, at);
        draw_row(app, row, &columns, area, canvas);
        if index == cursor {
            canvas.apply_style(area, TextRole::Bar);
        }
    }
}

fn draw_header(app: &App, columns: &Columns, area: Rect, canvas: &mut Canvas<'_>) {
    let role = |sorted: bool| {
        if sorted {
            TextRole::Sorted
        } else {
            TextRole::Heading
        }
    };
    let arrow = if app.effective_sort().is_ascending(app.reverse) {
        canvas.symbols.ascending
    } else {
        canvas.symbols.descending
    };
    let heading = |title: &str, sorted: bool| match sorted {
        true => format!("{arrow}{title}"),
        false => title.to_owned(),
    };
    let mut left = area;
    let sorted = app.effective_sort() == Sort::Name;
    let name = heading(app.name_heading(), sorted);
    canvas.text(first_cells(left, columns.name), &name, role(sorted));
    left = skip_cells(left, columns.name + 1);
    for (column, width) in &columns.numbers {
        let sorted = column.is_sorted(app);
        let title = heading(column.title(app), sorted);
        canvas.text_right(first_cells(left, *width), &title, role(sorted));
        left = skip_cells(left, width + 1);
    }
    if columns.trend > 0 {
        let metric = match app.trend_metric() {
            TrendMetric::Exits => app.sort_heading(Sort::Exits),
            TrendMetric::Cost => app.sort_heading(Sort::Cost),
        };
        let title = if columns.trend >= 16 {
            format!("trend of {metric}")
        } else {
            "trend".to_owned()
        };
        canvas.text_right(first_cells(left, columns.trend), &title, TextRole::Heading);
    }
}

fn draw_row(app: &App, row: &TopRow, columns: &Columns, area: Rect, canvas: &mut Canvas<'_>) {
    // Rows that have ended or are inactive stay for a while, dimmed.
    let dimmed = row.has_ended
        || (row.breakdown == Default::default() && row.guest_ns.is_none_or(|ns| ns == 0));
    let mut left = area;
    let role = if dimmed {
        TextRole::Dim
    } else {
        TextRole::Plain
    };
    draw_label(row, first_cells(left, columns.name), role, canvas);
    left = skip_cells(left, columns.name + 1);
    for (column, width) in &columns.numbers {
        let (text, role) = column.cell(row, app);
        let role = if dimmed { TextRole::Dim } else { role };
        canvas.text_right(first_cells(left, *width), &text, role);
        left = skip_cells(left, width + 1);
    }
    if columns.trend > 0 {
        let trend = sparkline::sparkline(
            &row.trend,
            usize::from(columns.trend),
            app.history.sample_count(),
            &canvas.symbols.levels,
        );
        let role = if dimmed {
            TextRole::Dim
        } else {
            TextRole::Trend
        };
        canvas.text_right(first_cells(left, columns.trend), &trend, role);
    }
}

/// Draws the name of a row. If it is too long, its end stays, because it distinguishes the row from others.
fn draw_label(row: &TopRow, area: Rect, role: TextRole, canvas: &mut Canvas<'_>) {
    let (name, tail) = row_label(row);
    let tail_width = u16::try_from(text_width(&tail)).unwrap_or(u16::MAX);
    let head = first_cells(area, area.width.saturating_sub(tail_width));
    let used = canvas.text(head, name, role);
    canvas.text(skip_cells(area, used), &tail, role);
}

/// Returns the first columns of an area.
fn first_cells(area: Rect, width: u16) -> Rect {
    Rect {
        width: width.min(area.width),
        ..area
    }
}
