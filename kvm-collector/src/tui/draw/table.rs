//! The rows.

use ratatui::layout::Rect;

use super::{
    super::{App, Sort},
    canvas::{Canvas, Look, line, skip},
    columns::{Column, Columns, label},
    spark,
};
use crate::{
    model::VMEXIT,
    view::{Group, TopRow, TrendMetric},
};

/// Draws the columns' names and the rows.
pub(super) fn draw(app: &App, header: Rect, rows: Rect, canvas: &mut Canvas<'_>) {
    let columns = Columns::of(app, rows.width);
    heading(app, &columns, header, canvas);
    let offset = app.level().offset;
    let shown = app.rows.iter().enumerate().skip(offset);
    let cursor = app.cursor();
    for ((index, row), at) in shown.zip(0..rows.height) {
        let place = line(rows, at);
        draw_row(app, row, &columns, place, canvas);
        if index == cursor {
            canvas.paint(place, Look::Bar);
        }
    }
}

fn heading(app: &App, columns: &Columns, place: Rect, canvas: &mut Canvas<'_>) {
    let look = |sorted: bool| {
        if sorted { Look::Sorted } else { Look::Heading }
    };
    let name = match app.scope().by {
        Group::Vm => "VM",
        Group::Vcpu => "vCPU",
        Group::Reason if app.setup.kind == VMEXIT => "exit reason",
        Group::Reason => &app.setup.kind,
    };
    let mut left = place;
    canvas.text(
        first(left, columns.name),
        name,
        look(app.sorted_by() == Sort::Name),
    );
    left = skip(left, columns.name + 1);
    for column in &columns.numbers {
        let cell = first(left, column.width());
        let sorted = *column == Column::Number(app.sorted_by());
        canvas.text_right(cell, column.title(), look(sorted));
        left = skip(left, column.width() + 1);
    }
    if columns.trend > 0 {
        let of = match app.trend_of() {
            TrendMetric::Exits => "exits/s",
            TrendMetric::Busy => "cost/s",
        };
        let title = if columns.trend >= 16 {
            format!("trend of {of}")
        } else {
            "trend".to_owned()
        };
        canvas.text_right(first(left, columns.trend), &title, Look::Heading);
    }
}

fn draw_row(app: &App, row: &TopRow, columns: &Columns, place: Rect, canvas: &mut Canvas<'_>) {
    // What has ended, or does not happen at the moment, is still there for a while.
    let faded = row.has_ended()
        || (row.breakdown == Default::default() && row.guest_ns.is_none_or(|ns| ns == 0));
    let mut left = place;
    let look = if faded { Look::Dim } else { Look::Plain };
    canvas.text(first(left, columns.name), &label(row), look);
    left = skip(left, columns.name + 1);
    for column in &columns.numbers {
        let (text, look) = column.cell(row, app);
        let look = if faded { Look::Dim } else { look };
        canvas.text_right(first(left, column.width()), &text, look);
        left = skip(left, column.width() + 1);
    }
    if columns.trend > 0 {
        let trend = spark::line(&row.trend, usize::from(columns.trend), app.ledger.sample_count());
        let look = if faded { Look::Dim } else { Look::Trend };
        canvas.text_right(first(left, columns.trend), &trend, look);
    }
}

/// The first cells of a place.
fn first(place: Rect, width: u16) -> Rect {
    Rect {
        width: width.min(place.width),
        ..place
    }
}
