//! The comparison with a baseline as text: each current number, followed by its change.

use std::io::{self, Write};

use kvm_ebpf_common::bucket_index;

use super::{
    loss::write_loss,
    style::TextStyle,
    table::TextTable,
    wrap::{write_sentence, write_warning},
};
use crate::{
    format::{
        local_time,
        row_names::{as_text, counted_unit, vm_name, with_name},
        units::{duration, percent, plural, rate, rough_duration, rough_percent},
    },
    model::VMEXIT,
    view::{DiffReport, DiffRow, DiffState, RateChange, TimeChange},
};

/// Writes a comparison with a baseline.
///
/// # Errors
/// When writing fails.
pub fn write_exits_diff(
    report: &DiffReport,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if report.rows.is_empty() {
        let what = match report.kind.as_str() {
            VMEXIT => "VM exits".to_owned(),
            kind => format!("events of kind {kind}"),
        };
        let text = format!("no {what}, neither in the baseline nor now");
        write_sentence(&text, style, out)?;
    } else {
        let (table, hidden) = diff_table(report, style);
        table.write(style, out)?;
        if !hidden.is_empty() {
            let text = format!("(not shown in this width: {})", hidden.join(", "));
            write_sentence(&text, style, out)?;
        }
    }
    let hidden = report.row_count - report.rows.len();
    if hidden > 0 {
        let rows = plural(hidden as u64, "more row");
        write_sentence(&format!("{rows} (hidden by --top)"), style, out)?;
    }
    let text = format!(
        "{}, compared with {}; cost excludes idle time",
        duration(report.elapsed_ns),
        describe_baseline(report)
    );
    writeln!(out)?;
    write_sentence(&text, style, out)?;
    if report.baseline_left_out > 0 {
        let text = format!(
            "incomplete: --top hid {} of the baseline; rows marked new may be among them",
            plural(report.baseline_left_out, "row")
        );
        write_warning(&text, style, out)?;
    }
    if report.baseline_incomplete {
        write_warning("incomplete: the baseline reports losses", style, out)?;
    }
    write_loss(&report.loss, (0, counted_unit(&report.kind)), style, out)
}

/// Describes the baseline: `a baseline of 2.000 s (before.json; host1; Linux 6.12.57; 2026-11-25 14:17:09.123 to 14:17:11.123 CET)`.
fn describe_baseline(report: &DiffReport) -> String {
    let baseline = &report.baseline;
    let kernel = baseline.kernel.as_deref();
    let times = baseline.start.as_deref().zip(baseline.end.as_deref());
    let facts = [
        Some(as_text(&baseline.file).into_owned()).filter(|it| !it.is_empty()),
        baseline.host.as_deref().map(|it| as_text(it).into_owned()),
        kernel.map(|it| format!("Linux {}", as_text(it))),
        times.and_then(|(start, end)| local_time::range_of_utc(start, end)),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    let length = duration(report.baseline_elapsed_ns);
    match facts.is_empty() {
        true => format!("a baseline of {length}"),
        false => format!("a baseline of {length} ({})", facts.join("; ")),
    }
}

/// Creates the table with the columns that fit into a line. Also returns the headings of those that do not fit.
fn diff_table(report: &DiffReport, style: TextStyle) -> (TextTable, Vec<&'static str>) {
    let mut header = Vec::new();
    for by in &report.by {
        header.push(match *by {
            "vm" => "VM",
            "vcpu" => "vCPU",
            _ if report.kind == VMEXIT => "exit reason",
            _ => "event",
        });
    }
    let names = header.len();
    let rate_name = match counted_unit(&report.kind) {
        "exit" => "exits/s",
        _ => "events/s",
    };
    header.extend([
        rate_name, "change", "cost/s", "change", "mean", "change", "p99", "change",
    ]);
    let mut table = TextTable::new(&header, 0..names);
    for row in &report.rows {
        let mut cells: Vec<_> = report.by.iter().map(|by| name_cell(row, by)).collect();
        let DiffRow {
            state, rate_per_s, ..
        } = row;
        cells.extend([rate(rate_per_s.now), rate_change(*state, rate_per_s)]);
        for times in [&row.cost_ns_per_s, &row.mean_ns] {
            let now = times.now.map_or_else(String::new, duration);
            cells.extend([now, change(times)]);
        }
        let p99 = row.p99_ns.now.map_or_else(String::new, rough_duration);
        cells.extend([p99, rough_change(&row.p99_ns)]);
        table.add_row(cells);
    }
    let mut hidden = Vec::new();
    if let Some(max_width) = style.max_width {
        // A number and its change have the same rank, so both are hidden.
        let ranks: Vec<u8> = vec![0; names].into_iter().chain(RANKS).collect();
        let positions = table.fit_width(&ranks, max_width);
        hidden.extend(positions.iter().map(|at| header[*at]));
        hidden.retain(|name| *name != "change");
    }
    (table, hidden)
}

/// Ranks of the columns with numbers: those with the highest rank are hidden first.
const RANKS: [u8; 8] = [0, 0, 1, 1, 3, 3, 2, 2];

fn name_cell(row: &DiffRow, by: &str) -> String {
    match by {
        "vm" => row
            .vm
            .as_deref()
            .map_or_else(String::new, |vm| vm_name(vm, row.pid.unwrap_or(0), as_text)),
        "vcpu" => row
            .vcpu
            .map_or_else(|| "unknown".into(), |index| index.to_string()),
        _ => match (&row.key, &row.key_name) {
            (Some(key), name) => with_name(key, name.as_deref()),
            (None, _) => row.reason.clone().unwrap_or_default(),
        },
    }
}

fn rate_change(state: DiffState, change: &RateChange) -> String {
    match state {
        DiffState::New => "new".into(),
        DiffState::Gone => format!("gone (-{})", rate(change.before)),
        DiffState::Both => {
            let number = format!("{}{}", sign(change.change < 0.0), rate(change.change.abs()));
            with_share(number, change.change, change.before, percent)
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn change(times: &TimeChange) -> String {
    match (times.change, times.before) {
        (Some(change), Some(before)) => {
            let number = format!("{}{}", sign(change < 0), duration(change.unsigned_abs()));
            with_share(number, change as f64, before as f64, percent)
        }
        _ => String::new(),
    }
}

/// Describes the change of a percentile, which is accurate to 5 %. It is `~` if the times are in the same bucket of the histogram or
/// in adjacent ones, because then they may be equal.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn rough_change(times: &TimeChange) -> String {
    let (Some(before), Some(now), Some(change)) = (times.before, times.now, times.change) else {
        return String::new();
    };
    if bucket_index(before).abs_diff(bucket_index(now)) <= 1 {
        return "~".to_owned();
    }
    let number = format!(
        "{}{}",
        sign(change < 0),
        rough_duration(change.unsigned_abs())
    );
    with_share(number, change as f64, before as f64, rough_percent)
}

fn sign(is_negative: bool) -> char {
    if is_negative { '-' } else { '+' }
}

/// Appends the relative change to an absolute one: `+5 (+50.00%)`. It is omitted if it is 0, not
/// defined, or at least 1000 %.
fn with_share(number: String, change: f64, before: f64, format: fn(f64) -> String) -> String {
    if before == 0.0 || change == 0.0 {
        return number;
    }
    let share = change.abs() / before;
    let share = if share < 10.0 {
        format(share)
    } else {
        return number;
    };
    format!("{number} ({}{share})", sign(change < 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Loss, view::BaselineOrigin};

    fn times(before: u64, now: u64) -> TimeChange {
        TimeChange {
            before: Some(before),
            now: Some(now),
            change: Some(now.cast_signed() - before.cast_signed()),
        }
    }

    const NONE: TimeChange = TimeChange {
        before: None,
        now: None,
        change: None,
    };

    fn report() -> DiffReport {
        let row = DiffRow {
            vm: Some("web".into()),
            pid: None,
            vcpu: None,
            reason: None,
            key: Some("msr 0x6e0 write".into()),
            key_name: Some("TSC_DEADLINE".into()),
            state: DiffState::Both,
            count: 300,
            baseline_count: 200,
            rate_per_s: RateChange {
                before: 200.0,
                now: 300.0,
                change: 100.0,
            },
            total_ns_per_s: times(1_000_000, 500_000),
            cost_ns_per_s: times(1_000_000, 500_000),
            mean_ns: times(5_000, 1_667),
            p99_ns: NONE,
        };
        let gone = DiffRow {
            key: Some("msr 0x10 read".into()),
            key_name: None,
            state: DiffState::Gone,
            rate_per_s: RateChange {
                before: 7.0,
                now: 0.0,
                change: -7.0,
            },
            cost_ns_per_s: times(7_000, 0),
            mean_ns: TimeChange {
                before: Some(1000),
                ..NONE
            },
            ..row.clone()
        };
        DiffReport {
            view: "exits_diff",
            kind: "msr".into(),
            by: vec!["vm", "vcpu", "reason"],
            start_ns: 0,
            elapsed_ns: 1_000_000_000,
            baseline: BaselineOrigin {
                file: "before\x1b.json".into(),
                host: Some("host1".into()),
                kernel: Some("6.12.57".into()),
                start: None,
                end: None,
            },
            baseline_elapsed_ns: 2_000_000_000,
            row_count: 3,
            rows: vec![row, gone],
            baseline_left_out: 4,
            baseline_incomplete: true,
            loss: Loss::default(),
        }
    }

    #[test]
    fn vms_of_the_same_name_have_their_pid() {
        let mut report = report();
        report.rows[1].pid = Some(7);
        let mut out = Vec::new();
        write_exits_diff(&report, TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("  web          unknown  msr 0x6e0"), "{text}");
        assert!(text.contains("  web (pid 7)  unknown  msr 0x10"), "{text}");
    }

    #[test]
    fn changes_of_percentiles_have_two_digits_and_are_none_within_a_bucket() {
        assert_eq!(rough_change(&times(1_600, 1_600)), "~");
        assert_eq!(rough_change(&times(1_600, 1_640)), "~");
        assert_eq!(rough_change(&times(1_530, 1_540)), "~");
        assert_eq!(rough_change(&times(1_600, 2_437)), "+840 ns (+52%)");
        assert_eq!(rough_change(&times(9_754, 1_667)), "-8.1 us (-83%)");
        assert_eq!(rough_change(&NONE), "");
    }

    #[test]
    fn each_number_is_followed_by_its_change() {
        let mut out = Vec::new();
        write_exits_diff(&report(), TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "  VM   vCPU     event                           events/s          change    cost/s                change      mean               change  p99  change",
                "  web  unknown  msr 0x6e0 write (TSC_DEADLINE)       300  +100 (+50.00%)  500.0 us   -500.0 us (-50.00%)  1.667 us  -3.333 us (-66.66%)",
                "  web  unknown  msr 0x10 read                          0     gone (-7.0)      0 ns  -7.000 us (-100.00%)",
                "  1 more row (hidden by --top)",
                "",
                "  1.000 s, compared with a baseline of 2.000 s (before\\x1b.json; host1; Linux 6.12.57); cost excludes idle time",
                "  incomplete: --top hid 4 rows of the baseline; rows marked new may be among them",
                "  incomplete: the baseline reports losses",
                "  complete: no events were lost",
            ]
        );
    }
}
