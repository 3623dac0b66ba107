//! The histogram of the row that the cursor is on.

use kvm_ebpf_common::{BUCKETS, STEPS, bucket_start};
use ratatui::layout::Rect;

use super::{
    super::{
        App,
        sort::{float, share},
    },
    canvas::{Canvas, Look, line, skip},
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
            canvas.text(line(place, at), "│", Look::Dim);
        }
    }
    let place = skip(place, if place.x > 0 { 2 } else { 0 });
    let Some(row) = app.selected_row() else {
        return;
    };
    canvas.text(line(place, 0), &row.name, Look::Heading);
    if !app.histograms.is_for_scope(&app.scope()) {
        canvas.text(line(place, 1), "being read", Look::Dim);
        return;
    }
    let Some(totals) = app.histograms.row_totals(&row.key, app.window) else {
        canvas.text(line(place, 1), "no exits in this time", Look::Dim);
        return;
    };
    let since = match app.histograms.available_window(app.window) {
        Window::Recent => format!("in the last {}", units::short_duration(app.shown_ns())),
        Window::All => "since the start".to_owned(),
    };
    let counted = units::count(totals.count);
    let what = if app.setup.kind == VMEXIT {
        "exits"
    } else {
        "events"
    };
    let text = format!("{counted} {what} {since}");
    canvas.text(line(place, 1), &text, Look::Plain);
    let mut at = 2;
    // Where there is room, the parts and percentiles come first.
    if place.height >= 24 {
        at += parts(row, below(place, at), canvas);
        at += percentiles(totals, below(place, at), canvas);
    }
    bars(totals, below(place, at), canvas);
}

fn below(place: Rect, lines: u16) -> Rect {
    let lines = lines.min(place.height);
    Rect {
        y: place.y + lines,
        height: place.height - lines,
        ..place
    }
}

/// Where the row's time went.
fn parts(row: &TopRow, place: Rect, canvas: &mut Canvas<'_>) -> u16 {
    let spent = &row.breakdown;
    let mut lines = 1;
    for (name, ns, look) in [
        ("guest", row.guest_ns.unwrap_or(0), Look::Guest),
        ("kernel", spent.kernel_ns, Look::Kernel),
        ("VMM", spent.vmm_ns, Look::Vmm),
        ("halted", spent.halted_ns, Look::Idle),
        ("preempted", spent.preempted_ns, Look::Preempted),
        ("not over", spent.open_ns, Look::Dim),
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
        canvas.text(skip(place, used), &bar(share, place.width - used), look);
        lines += 1;
    }
    lines
}

fn percentiles(totals: &ExitTotals, place: Rect, canvas: &mut Canvas<'_>) -> u16 {
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
        canvas.text(line(place, index), text.trim_end(), Look::Plain);
    }
    5
}

/// A line for each power of two, or for several where they do not fit.
fn bars(totals: &ExitTotals, place: Rect, canvas: &mut Canvas<'_>) {
    let counts = &totals.histogram;
    let (Some(first), Some(last)) = (
        counts.iter().position(|it| *it > 0),
        counts.iter().rposition(|it| *it > 0),
    ) else {
        canvas.text(line(place, 0), "none of them has a time", Look::Dim);
        return;
    };
    let (first, last) = (power(first), power(last));
    let powers = last - first + 1;
    let height = usize::from(place.height).max(1);
    let in_line = powers.div_ceil(height);
    let all: u64 = counts.iter().sum();
    let sums: Vec<(usize, u64)> = (first..=last)
        .step_by(in_line)
        .map(|power| {
            let buckets = buckets_from(power)..buckets_from(power + in_line);
            (power, counts[buckets].iter().sum())
        })
        .collect();
    let most = sums.iter().map(|(_, sum)| *sum).max().unwrap_or(0).max(1);
    for (index, (power, sum)) in (0..).zip(sums) {
        let place = line(place, index);
        let from = units::short_duration(bucket_start(buckets_from(power)));
        let share = match sum {
            0 => String::new(),
            _ => units::share(share(sum, all)) + "%",
        };
        let text = format!("{from:>6} {:>11} {share:>6} ", units::count(sum));
        let used = canvas.text(place, &text, Look::Plain);
        let width = place.width - used;
        let bar = bar(float(sum) / float(most), width);
        canvas.text(skip(place, used), &bar, Look::Trend);
    }
}

/// Which power of two a bucket is of, counted from that of the shortest times.
fn power(bucket: usize) -> usize {
    bucket.div_ceil(STEPS)
}

fn buckets_from(power: usize) -> usize {
    match power {
        0 => 0,
        power => (1 + (power - 1) * STEPS).min(BUCKETS),
    }
}

/// A bar in eighths of cells; what is there at all shows.
fn bar(share: f64, width: u16) -> String {
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
        assert_eq!(power(bucket_index(5)), 0);
        for exponent in 7..37 {
            let bucket = bucket_index(1 << exponent);
            assert_eq!(buckets_from(power(bucket)), bucket);
            assert_eq!(
                power(bucket_index((1 << (exponent + 1)) - 1)),
                power(bucket)
            );
        }
        assert_eq!(buckets_from(power(BUCKETS - 1)), BUCKETS - 1);
        assert_eq!(buckets_from(1000), BUCKETS);
    }

    #[test]
    fn a_bar_shows_the_least_there_is() {
        assert_eq!(bar(0.0, 10), "");
        assert_eq!(bar(0.0001, 10), "▏");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(f64::NAN, 3), "");
    }
}
