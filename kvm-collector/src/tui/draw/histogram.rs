//! Draws the pane with the histogram of the selected row.

use ratatui::layout::Rect;

use super::{
    super::{App, sort::share},
    bins::{bins, labels},
    canvas::{Canvas, TextRole, line, skip_cells},
};
use crate::{
    format::units,
    model::ExitTotals,
    view::{TopRow, Window},
};

const SINCE_START: &str = "since the start";

pub(super) fn draw(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    canvas.clear(area);
    if area.x > 0 {
        // Separate the pane from the rows at its left.
        for at in 0..area.height {
            canvas.text(line(area, at), canvas.symbols.vertical, TextRole::Dim);
        }
    }
    let area = skip_cells(area, if area.x > 0 { 2 } else { 0 });
    let Some(row) = app.selected_row() else {
        return;
    };
    canvas.text(line(area, 0), &row.name, TextRole::Heading);
    if !app.histograms.is_for_scope(&app.scope()) {
        canvas.text(line(area, 1), "reading ...", TextRole::Dim);
        return;
    }
    let unit = app.event_noun();
    let totals_in = |window| {
        let totals = app.histograms.row_totals(&row.key, window);
        totals.filter(|it| it.count > 0)
    };
    let interval = format!("in the last {}", units::short_duration(app.window_ns()));
    let window = app.histograms.available_window(app.window);
    let (totals, text) = match (totals_in(window), totals_in(Window::All)) {
        (Some(totals), _) => {
            let since = match window {
                Window::Recent => interval,
                Window::All => SINCE_START.to_owned(),
            };
            let count = units::plural(totals.count, unit);
            (totals, format!("{count} {since}"))
        }
        (None, Some(totals)) => {
            let count = units::plural(totals.count, unit);
            (totals, format!("{count} {SINCE_START}, 0 {interval}"))
        }
        (None, None) => {
            let text = format!("no {unit}s in this time");
            canvas.text(line(area, 1), &text, TextRole::Dim);
            return;
        }
    };
    canvas.text(line(area, 1), &text, TextRole::Plain);
    let mut at = 2;
    // A high pane also shows the time breakdown and percentiles.
    if area.height >= 24 {
        at += draw_time_breakdown(row, skip_lines(area, at), canvas);
        at += draw_percentiles(totals, skip_lines(area, at), canvas);
    }
    draw_bars(totals, skip_lines(area, at), canvas);
}

fn skip_lines(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    }
}

/// Draws the time breakdown of a row. Returns the number of lines.
fn draw_time_breakdown(row: &TopRow, area: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let breakdown = &row.breakdown;
    let mut lines = 1;
    for (name, ns, role) in [
        ("guest", row.guest_ns.unwrap_or(0), TextRole::Guest),
        ("kernel", breakdown.kernel_ns, TextRole::Kernel),
        ("VMM", breakdown.vmm_ns, TextRole::Vmm),
        ("idle", breakdown.idle_ns, TextRole::Idle),
        ("preempted", breakdown.preempted_ns, TextRole::Preempted),
        ("in progress", breakdown.open_ns, TextRole::Dim),
    ] {
        if ns == 0 {
            continue;
        }
        let area = line(area, lines);
        let share = share(ns, row.wall_ns);
        let text = format!(
            "{name:<11}{:>7} {:>5}% ",
            units::short_duration(ns),
            units::share(share)
        );
        let used = canvas.text(area, &text, role);
        let bar = canvas.symbols.bar(share, area.width - used);
        canvas.text(skip_cells(area, used), &bar, role);
        lines += 1;
    }
    lines
}

fn draw_percentiles(totals: &ExitTotals, area: Rect, canvas: &mut Canvas<'_>) -> u16 {
    if totals.timed_count() == 0 {
        return 0;
    }
    let min_ns = match totals.extremes.min_ns {
        u64::MAX => 0,
        ns => ns,
    };
    let at = |percent| totals.percentile_ns(percent);
    let exact = |name, ns| (name, units::short_duration(ns));
    let percentile = |name, percent| (name, units::short_rough_duration(at(percent)));
    for (index, numbers) in (1..).zip([
        [
            exact("min", min_ns),
            exact("mean", totals.mean_ns()),
            exact("max", totals.extremes.max_ns),
        ],
        [
            percentile("p50", 50.0),
            percentile("p90", 90.0),
            percentile("p95", 95.0),
        ],
        [
            percentile("p99", 99.0),
            percentile("p99.9", 99.9),
            percentile("p99.99", 99.99),
        ],
    ]) {
        let text: String = numbers
            .iter()
            .map(|(name, duration)| format!("{name:<7}{duration:>7}  "))
            .collect();
        canvas.text(line(area, index), text.trim_end(), TextRole::Plain);
    }
    5
}

/// Draws one bar per range of durations that has exits. The height of the area determines how fine the ranges are: at best, as the
/// buckets of the histogram.
fn draw_bars(totals: &ExitTotals, area: Rect, canvas: &mut Canvas<'_>) {
    let bins = bins(&totals.histogram, usize::from(area.height));
    if bins.is_empty() {
        canvas.text(line(area, 0), "no durations are known", TextRole::Dim);
        return;
    }
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0);
    let labels = labels(&bins);
    let label_width = labels.iter().map(String::len).max().unwrap_or(0);
    let count_width = units::count(most).len();
    for ((index, bin), label) in (0..).zip(&bins).zip(&labels) {
        let area = line(area, index);
        let share_of_all = units::share(share(bin.count, all)) + "%";
        let text = format!(
            "{label:>label_width$} {:>count_width$} {share_of_all:>6} ",
            units::count(bin.count)
        );
        let used = canvas.text(area, &text, TextRole::Plain);
        let width = area.width - used;
        let bar = canvas.symbols.bar(share(bin.count, most), width);
        canvas.text(skip_cells(area, used), &bar, TextRole::Trend);
    }
}
