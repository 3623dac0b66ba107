//! The comparison with a baseline as text: each current number, followed by its change.

use std::io::{self, Write};

use super::{
    loss::write_loss,
    style::TextStyle,
    table::{INDENT, TextTable},
};
use crate::{
    format::{
        local_time,
        row_names::{as_text, vm_name, with_name},
        units::{duration, percent, plural, rate, rough_duration},
    },
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
        writeln!(out, "{INDENT}no VM exits, neither in the baseline nor now")?;
    } else {
        let (table, hidden) = diff_table(report, style);
        table.write(style, out)?;
        if !hidden.is_empty() {
            writeln!(
                out,
                "{INDENT}(not shown in this width: {})",
                hidden.join(", ")
            )?;
        }
    }
    let hidden = report.row_count - report.rows.len();
    if hidden > 0 {
        let rows = plural(hidden as u64, "more row");
        writeln!(out, "{INDENT}{rows} (hidden by --top)")?;
    }
    writeln!(
        out,
        "\n{INDENT}{}, compared with {}; cost excludes idle time",
        duration(report.elapsed_ns),
        describe_baseline(report)
    )?;
    if report.baseline_left_out > 0 {
        let text = format!(
            "{INDENT}incomplete: --top hid {} of the baseline; rows marked new may be among them",
            plural(report.baseline_left_out, "row")
        );
        writeln!(out, "{}", style.warning(&text))?;
    }
    if report.baseline_incomplete {
        let text = format!("{INDENT}incomplete: the baseline reports losses");
        writeln!(out, "{}", style.warning(&text))?;
    }
    write_loss(&report.loss, 0, style, out)
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
            _ if report.kind == crate::model::VMEXIT => "exit reason",
            _ => "event",
        });
    }
    let names = header.len();
    header.extend([
        "exits/s", "change", "cost/s", "change", "mean", "change", "p99", "change",
    ]);
    let mut table = TextTable::new(&header, 0..names);
    for row in &report.rows {
        let mut cells: Vec<_> = report.by.iter().map(|by| name_cell(row, by)).collect();
        let DiffRow {
            state, rate_per_s, ..
        } = row;
        cells.extend([rate(rate_per_s.now), rate_change(*state, rate_per_s)]);
        for (times, format) in [
            (&row.cost_ns_per_s, duration as fn(u64) -> String),
            (&row.mean_ns, duration),
            (&row.p99_ns, rough_duration),
        ] {
            let now = times.now.map_or_else(String::new, format);
            cells.extend([now, change(times, format)]);
        }
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
        _ => match (&row.key, &row.name) {
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
            with_share(number, change.change, change.before)
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn change(times: &TimeChange, format: fn(u64) -> String) -> String {
    match (times.change, times.before) {
        (Some(change), Some(before)) => {
            let number = format!("{}{}", sign(change < 0), format(change.unsigned_abs()));
            with_share(number, change as f64, before as f64)
        }
        _ => String::new(),
    }
}

fn sign(is_negative: bool) -> char {
    if is_negative { '-' } else { '+' }
}

/// Appends the relative change to an absolute one: `+5 (+50.00%)`. It is omitted if it is 0, not
/// defined, or at least 1000 %.
fn with_share(number: String, change: f64, before: f64) -> String {
    if before == 0.0 || change == 0.0 {
        return number;
    }
    let share = change.abs() / before;
    let share = if share < 10.0 {
        percent(share)
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
            name: Some("TSC_DEADLINE".into()),
            state: DiffState::Both,
            count: 300,
            baseline_count: 200,
            rate_per_s: RateChange {
                before: 200.0,
                now: 300.0,
                change: 100.0,
            },
            time_ns_per_s: times(1_000_000, 500_000),
            cost_ns_per_s: times(1_000_000, 500_000),
            mean_ns: times(5_000, 1_667),
            p99_ns: NONE,
        };
        let gone = DiffRow {
            key: Some("msr 0x10 read".into()),
            name: None,
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
    fn each_number_is_followed_by_its_change() {
        let mut out = Vec::new();
        write_exits_diff(&report(), TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "  VM   vCPU     event                           exits/s          change    cost/s                change      mean               change  p99  change",
                "  web  unknown  msr 0x6e0 write (TSC_DEADLINE)      300  +100 (+50.00%)  500.0 us   -500.0 us (-50.00%)  1.667 us  -3.333 us (-66.66%)",
                "  web  unknown  msr 0x10 read                         0     gone (-7.0)      0 ns  -7.000 us (-100.00%)",
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
