//! Draws the pane with the histogram of the selected row.

use kvm_ebpf_common::{BUCKETS, BUCKETS_PER_OCTAVE, bucket_start};
use ratatui::layout::Rect;

use super::{
    super::{
        App,
        sort::{share, to_f64},
    },
    canvas::{Canvas, TextRole, line, skip_cells},
};
use crate::{
    format::units,
    model::{ExitTotals, VMEXIT},
    view::{TopRow, Window},
};

pub(super) fn draw(app: &App, area: Rect, canvas: &mut Canvas<'_>) {
    canvas.clear(area);
    if area.x > 0 {
        // Separate the pane from the rows at its left.
        for at in 0..area.height {
            canvas.text(line(area, at), "│", TextRole::Dim);
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
    let Some(totals) = app.histograms.row_totals(&row.key, app.window) else {
        canvas.text(line(area, 1), "no exits in this time", TextRole::Dim);
        return;
    };
    let since = match app.histograms.available_window(app.window) {
        Window::Recent => format!("in the last {}", units::short_duration(app.window_ns())),
        Window::All => "since the start".to_owned(),
    };
    let counted = units::count(totals.count);
    let unit = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        "events"
    };
    let text = format!("{counted} {unit} {since}");
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
        ("halted", breakdown.halted_ns, TextRole::Idle),
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
        canvas.text(
            skip_cells(area, used),
            &bar_text(share, area.width - used),
            role,
        );
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
    for (index, numbers) in (1..).zip([
        [
            ("min", min_ns),
            ("mean", totals.mean_ns()),
            ("max", totals.extremes.max_ns),
        ],
        [("p50", at(50.0)), ("p90", at(90.0)), ("p95", at(95.0))],
        [
            ("p99", at(99.0)),
            ("p99.9", at(99.9)),
            ("p99.99", at(99.99)),
        ],
    ]) {
        let text: String = numbers
            .iter()
            .map(|(name, ns)| format!("{name:<7}{:>7}  ", units::short_duration(*ns)))
            .collect();
        canvas.text(line(area, index), text.trim_end(), TextRole::Plain);
    }
    5
}

/// Draws one bar per power of two; if they do not fit, several powers share a bar.
fn draw_bars(totals: &ExitTotals, area: Rect, canvas: &mut Canvas<'_>) {
    let counts = &totals.histogram;
    let (Some(first), Some(last)) = (
        counts.iter().position(|it| *it > 0),
        counts.iter().rposition(|it| *it > 0),
    ) else {
        canvas.text(line(area, 0), "no durations are known", TextRole::Dim);
        return;
    };
    let (first, last) = (power_of_bucket(first), power_of_bucket(last));
    let powers = last - first + 1;
    let height = usize::from(area.height).max(1);
    let powers_per_line = powers.div_ceil(height);
    let all: u64 = counts.iter().sum();
    let sums: Vec<(usize, u64)> = (first..=last)
        .step_by(powers_per_line)
        .map(|power| {
            let buckets = first_bucket(power)..first_bucket(power + powers_per_line);
            (power, counts[buckets].iter().sum())
        })
        .collect();
    let max = sums.iter().map(|(_, sum)| *sum).max().unwrap_or(0).max(1);
    for (index, (power, sum)) in (0..).zip(sums) {
        let area = line(area, index);
        let from = units::short_duration(bucket_start(first_bucket(power)));
        let share = match sum {
            0 => String::new(),
            _ => units::share(share(sum, all)) + "%",
        };
        let text = format!("{from:>6} {:>11} {share:>6} ", units::count(sum));
        let used = canvas.text(area, &text, TextRole::Plain);
        let width = area.width - used;
        let bar = bar_text(to_f64(sum) / to_f64(max), width);
        canvas.text(skip_cells(area, used), &bar, TextRole::Trend);
    }
}

/// Returns the power of two of a bucket, counted from that of the first bucket.
fn power_of_bucket(bucket: usize) -> usize {
    bucket.div_ceil(BUCKETS_PER_OCTAVE)
}

/// Returns the first bucket of a power of two.
fn first_bucket(power: usize) -> usize {
    match power {
        0 => 0,
        power => (1 + (power - 1) * BUCKETS_PER_OCTAVE).min(BUCKETS),
    }
}

/// Returns a bar with a resolution of 1/8 cell. A share above zero is always visible.
fn bar_text(share: f64, width: u16) -> String {
    const PARTS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to eight times a width"
    )]
    let eighths = (share.clamp(0.0, 1.0) * f64::from(width) * 8.0).ceil() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if let Some(part) = (eighths % 8).checked_sub(1) {
        bar.push(PARTS[part]);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::bucket_index;

    #[test]
    fn buckets_start_at_powers_of_two() {
        assert_eq!(power_of_bucket(bucket_index(5)), 0);
        for exponent in 7..37 {
            let bucket = bucket_index(1 << exponent);
            assert_eq!(first_bucket(power_of_bucket(bucket)), bucket);
            assert_eq!(
                power_of_bucket(bucket_index((1 << (exponent + 1)) - 1)),
                power_of_bucket(bucket)
            );
        }
        assert_eq!(first_bucket(power_of_bucket(BUCKETS - 1)), BUCKETS - 1);
        assert_eq!(first_bucket(1000), BUCKETS);
    }

    #[test]
    fn a_bar_shows_the_smallest_share() {
        assert_eq!(bar_text(0.0, 10), "");
        assert_eq!(bar_text(0.0001, 10), "▏");
        assert_eq!(bar_text(0.5, 3), "█▌");
        assert_eq!(bar_text(1.0, 3), "███");
        assert_eq!(bar_text(f64::NAN, 3), "");
    }
}
