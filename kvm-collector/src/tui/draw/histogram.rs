//! The histogram of the row that the cursor is on.

use kvm_ebpf_common::{BUCKETS, BUCKETS_PER_OCTAVE, bucket_start};
use ratatui::layout::Rect;

use super::{
    super::{
        App,
        sort::{to_f64, share},
    },
    canvas::{Canvas, TextRole, line, skip_cells},
};
use crate::{
    format::units,
    model::{ExitTotals, VMEXIT},
    view::{TopRow, Window},
};

pub(super) fn draw(app: &App, place: Rect, canvas: &mut Canvas<'_>) {
    canvas.clear(place);
    if place.x > 0 {
        // Beside the rows, something must be between.
        for at in 0..place.height {
            canvas.text(line(place, at), "│", TextRole::Dim);
        }
    }
    let place = skip_cells(place, if place.x > 0 { 2 } else { 0 });
    let Some(row) = app.selected_row() else {
        return;
    };
    canvas.text(line(place, 0), &row.name, TextRole::Heading);
    if !app.histograms.is_for_scope(&app.scope()) {
        canvas.text(line(place, 1), "being read", TextRole::Dim);
        return;
    }
    let Some(totals) = app.histograms.row_totals(&row.key, app.window) else {
        canvas.text(line(place, 1), "no exits in this time", TextRole::Dim);
        return;
    };
    let since = match app.histograms.available_window(app.window) {
        Window::Recent => format!("in the last {}", units::short_duration(app.window_ns())),
        Window::All => "since the start".to_owned(),
    };
    let counted = units::count(totals.count);
    let what = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        "events"
    };
    let text = format!("{counted} {what} {since}");
    canvas.text(line(place, 1), &text, TextRole::Plain);
    let mut at = 2;
    // Where there is room, the parts and percentiles come first.
    if place.height >= 24 {
        at += draw_time_breakdown(row, skip_lines(place, at), canvas);
        at += draw_percentiles(totals, skip_lines(place, at), canvas);
    }
    draw_bars(totals, skip_lines(place, at), canvas);
}

fn skip_lines(place: Rect, lines: u16) -> Rect {
    let lines = lines.min(place.height);
    Rect {
        y: place.y + lines,
        height: place.height - lines,
        ..place
    }
}

/// Where the row's time went.
fn draw_time_breakdown(row: &TopRow, place: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let spent = &row.breakdown;
    let mut lines = 1;
    for (name, ns, look) in [
        ("guest", row.guest_ns.unwrap_or(0), TextRole::Guest),
        ("kernel", spent.kernel_ns, TextRole::Kernel),
        ("VMM", spent.vmm_ns, TextRole::Vmm),
        ("halted", spent.halted_ns, TextRole::Idle),
        ("preempted", spent.preempted_ns, TextRole::Preempted),
        ("not over", spent.open_ns, TextRole::Dim),
    ] {
        if ns == 0 {
            continue;
        }
        let place = line(place, lines);
        let share = share(ns, row.wall_ns);
        let text = format!(
            "{name:<10}{:>7} {:>5}% ",
            units::short_duration(ns),
            units::share(share)
        );
        let used = canvas.text(place, &text, look);
        canvas.text(skip_cells(place, used), &bar_text(share, place.width - used), look);
        lines += 1;
    }
    lines
}

fn draw_percentiles(totals: &ExitTotals, place: Rect, canvas: &mut Canvas<'_>) -> u16 {
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
        canvas.text(line(place, index), text.trim_end(), TextRole::Plain);
    }
    5
}

/// A line for each power of two, or for several where they do not fit.
fn draw_bars(totals: &ExitTotals, place: Rect, canvas: &mut Canvas<'_>) {
    let counts = &totals.histogram;
    let (Some(first), Some(last)) = (
        counts.iter().position(|it| *it > 0),
        counts.iter().rposition(|it| *it > 0),
    ) else {
        canvas.text(line(place, 0), "none of them has a time", TextRole::Dim);
        return;
    };
    let (first, last) = (power_of_bucket(first), power_of_bucket(last));
    let powers = last - first + 1;
    let height = usize::from(place.height).max(1);
    let in_line = powers.div_ceil(height);
    let all: u64 = counts.iter().sum();
    let sums: Vec<(usize, u64)> = (first..=last)
        .step_by(in_line)
        .map(|power| {
            let buckets = first_bucket(power)..first_bucket(power + in_line);
            (power, counts[buckets].iter().sum())
        })
        .collect();
    let most = sums.iter().map(|(_, sum)| *sum).max().unwrap_or(0).max(1);
    for (index, (power, sum)) in (0..).zip(sums) {
        let place = line(place, index);
        let from = units::short_duration(bucket_start(first_bucket(power)));
        let share = match sum {
            0 => String::new(),
            _ => units::share(share(sum, all)) + "%",
        };
        let text = format!("{from:>6} {:>11} {share:>6} ", units::count(sum));
        let used = canvas.text(place, &text, TextRole::Plain);
        let width = place.width - used;
        let bar = bar_text(to_f64(sum) / to_f64(most), width);
        canvas.text(skip_cells(place, used), &bar, TextRole::Trend);
    }
}

/// Which power of two a bucket is of, counted from that of the shortest times.
fn power_of_bucket(bucket: usize) -> usize {
    bucket.div_ceil(BUCKETS_PER_OCTAVE)
}

fn first_bucket(power: usize) -> usize {
    match power {
        0 => 0,
        power => (1 + (power - 1) * BUCKETS_PER_OCTAVE).min(BUCKETS),
    }
}

/// A bar in eighths of cells; what is there at all shows.
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
    fn powers_of_two_begin_where_their_buckets_do() {
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
    fn a_bar_shows_the_least_there_is() {
        assert_eq!(bar_text(0.0, 10), "");
        assert_eq!(bar_text(0.0001, 10), "▏");
        assert_eq!(bar_text(0.5, 3), "█▌");
        assert_eq!(bar_text(1.0, 3), "███");
        assert_eq!(bar_text(f64::NAN, 3), "");
    }
}
