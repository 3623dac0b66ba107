//! The rows.

use ratatui::layout::Rect;

use super::{
    super::{App, Sort},
    canvas::{Canvas, TextRole, line, skip_cells},
    columns::{Column, Columns, row_label},
    sparkline,
};
use crate::{
    model::VMEXIT,
    view::{GroupBy, TopRow, TrendMetric},
};

/// Draws the columns' names and the rows.
pub(super) fn draw(app: &App, header: Rect, rows: Rect, canvas: &mut Canvas<'_>) {
    let columns = Columns::fit(app, rows.width);
    draw_header(app, &columns, header, canvas);
    let offset = app.level().offset;
    let shown = app.rows.iter().enumerate().skip(offset);
    let cursor = app.cursor();
    for ((index, row), at) in shown.zip(0..rows.height) {
        let place = line(rows, at);
        draw_row(app, row, &columns, place, canvas);
        if index == cursor {
            canvas.apply_style(place, TextRole::Bar);
        }
    }
}

fn draw_header(app: &App, columns: &Columns, place: Rect, canvas: &mut Canvas<'_>) {
    let look = |sorted: bool| {
        if sorted { TextRole::Sorted } else { TextRole::Heading }
    };
    let name = match app.scope().by {
        GroupBy::Vm => "VM",
        GroupBy::Vcpu => "vCPU",
        GroupBy::Reason if app.setup.kind == VMEXIT => "exit reason",
        GroupBy::Reason => &app.setup.kind,
    };
    let mut left = place;
    canvas.text(
        first_cells(left, columns.name),
        name,
        look(app.effective_sort() == Sort::Name),
    );
    left = skip_cells(left, columns.name + 1);
    for column in &columns.numbers {
        let cell = first_cells(left, column.width());
        let sorted = *column == Column::Number(app.effective_sort());
        canvas.text_right(cell, column.title(), look(sorted));
        left = skip_cells(left, column.width() + 1);
    }
    if columns.trend > 0 {
        let of = match app.trend_metric() {
            TrendMetric::Exits => "exits/s",
            TrendMetric::Busy => "cost/s",
        };
        let title = if columns.trend >= 16 {
            format!("trend of {of}")
        } else {
            "trend".to_owned()
        };
        canvas.text_right(first_cells(left, columns.trend), &title, TextRole::Heading);
    }
}

fn draw_row(app: &App, row: &TopRow, columns: &Columns, place: Rect, canvas: &mut Canvas<'_>) {
    // What has ended, or does not happen at the moment, is still there for a while.
    let faded = row.has_ended()
        || (row.breakdown == Default::default() && row.guest_ns.is_none_or(|ns| ns == 0));
    let mut left = place;
    let look = if faded { TextRole::Dim } else { TextRole::Plain };
    canvas.text(first_cells(left, columns.name), &row_label(row), look);
    left = skip_cells(left, columns.name + 1);
    for column in &columns.numbers {
        let (text, look) = column.cell(row, app);
        let look = if faded { TextRole::Dim } else { look };
        canvas.text_right(first_cells(left, column.width()), &text, look);
        left = skip_cells(left, column.width() + 1);
    }
    if columns.trend > 0 {
        let trend = sparkline::sparkline(&row.trend, usize::from(columns.trend), app.history.sample_count());
        let look = if faded { TextRole::Dim } else { TextRole::Trend };
        canvas.text_right(first_cells(left, columns.trend), &trend, look);
    }
}

/// The first cells of a place.
fn first_cells(place: Rect, width: u16) -> Rect {
    Rect {
        width: width.min(place.width),
        ..place
    }
}
