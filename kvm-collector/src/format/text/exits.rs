//! `exits` as text: a table with what each row's time consists of, and below it what was asked for
//! besides.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table};

use super::{
    INDENT, Look, advice, loss, table,
    units::{count, duration, percent},
    write_table,
};
use crate::{
    model::VMEXIT,
    view::{Bucket, Cause, ExitRow, ExitsReport, SlowRow, VcpuRow},
};

/// Writes an `exits` report.
///
/// # Errors
/// When writing fails.
pub fn exits(report: &ExitsReport, look: Look, out: &mut impl Write) -> io::Result<()> {
    if report.rows.is_empty() {
        match report.kind.as_str() {
            VMEXIT => writeln!(out, "{INDENT}no VM exits")?,
            kind => writeln!(out, "{INDENT}none of kind {kind}")?,
        }
    } else {
        write_table(&rows(report), look, out)?;
    }
    let hidden = report.row_count - report.rows.len();
    if hidden > 0 {
        writeln!(out, "{INDENT}{hidden} more rows (--top leaves them out)")?;
    }
    for row in report.rows.iter().filter(|row| !row.histogram.is_empty()) {
        histogram(row, look, out)?;
    }
    let by_vcpu = |row: &ExitRow| row.vcpu.is_some() || row.tid.is_some();
    if report.rows.iter().any(by_vcpu) {
        writeln!(out, "\n{INDENT}{}", look.bold("where the vCPUs' time went"))?;
        write_table(&vcpus(report), look, out)?;
    }
    advice::write(&report.rows, look, out)?;
    writeln!(
        out,
        "\n{INDENT}{} exits, {} from exit to next entry ({} of it idle), in {}",
        count(report.count),
        duration(report.time_ns),
        duration(report.idle_ns),
        duration(report.elapsed_ns)
    )?;
    let untimed = report.rows.iter().map(|row| row.untimed);
    let untimed = untimed.fold(0, u64::saturating_add);
    if untimed > 0 {
        writeln!(
            out,
            "{INDENT}{} have no time: their exit or their entry was not seen",
            count(untimed)
        )?;
    }
    loss(&report.loss, report.open, look, out)
}

/// Writes a line about an exit that took long.
///
/// # Errors
/// When writing fails.
pub fn slow_exit(row: &SlowRow, out: &mut impl Write) -> io::Result<()> {
    let (seconds, ns) = (row.end_ns / 1_000_000_000, row.end_ns % 1_000_000_000);
    let vcpu = vcpu_cell(row.vcpu, Some(row.tid)).unwrap_or_default();
    write!(
        out,
        "{INDENT}{seconds}.{:06} {} (pid {}), vCPU {vcpu}: {} took {}",
        ns / 1000,
        row.vm,
        row.pid,
        with_name(&row.what, row.what_name.as_deref()),
        duration(row.time_ns)
    )?;
    let parts = [
        ("kernel", row.kernel_ns),
        ("VMM", row.vmm_ns),
        ("halted", row.halted_ns),
        ("preempted", row.preempted_ns),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(part, ns)| format!("{part} {}", duration(*ns)))
        .collect();
    write!(out, " ({})", parts.join(", "))?;
    if let Some(cause) = &row.cause {
        write!(out, ", {}", with_name(cause, row.cause_name.as_deref()))?;
    }
    writeln!(out, ", at {:#x}", row.guest_rip)
}

/// A column's head, and its cell of a row.
type Column = (&'static str, fn(&ExitRow) -> String);

/// The columns that say what a row is.
fn names(report: &ExitsReport) -> Vec<Column> {
    let has = |field: fn(&ExitRow) -> bool| report.rows.iter().any(field);
    let mut names: Vec<Column> = Vec::new();
    if has(|row| row.vm.is_some()) {
        names.push(("VM", |row| match (&row.vm, row.pid) {
            (Some(vm), Some(0)) => vm.clone(),
            (Some(vm), Some(pid)) => format!("{vm} (pid {pid})"),
            _ => String::new(),
        }));
    }
    if has(|row| row.vcpu.is_some() || row.tid.is_some()) {
        names.push(("vCPU", |row| {
            vcpu_cell(row.vcpu, row.tid).unwrap_or_default()
        }));
    }
    if has(|row| row.reason.is_some()) {
        names.push(("exit reason", |row| row.reason.clone().unwrap_or_default()));
    }
    if has(|row| row.key.is_some()) {
        names.push(("what", |row| key_cell(row).unwrap_or_default()));
    }
    names
}

fn rows(report: &ExitsReport) -> Table {
    let names = names(report);
    let percentiles: Vec<String> = report.rows.first().map_or(Vec::new(), |row| {
        let asked = row.percentiles.iter();
        asked.map(|it| format!("p{}", it.percent)).collect()
    });
    let mut header: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    header.extend([
        "count", "count%", "time", "time%", "busy%", "kernel", "VMM", "halted",
    ]);
    if report.preempt_watched {
        header.push("preempted");
    }
    header.extend(["min", "mean", "max"]);
    if percentiles.is_empty() {
        header.extend(["p50", "p99"]);
    }
    header.extend(percentiles.iter().map(String::as_str));
    let width = header.len();
    let mut table = table(&header, width);
    for index in 0..names.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    for row in &report.rows {
        let mut cells: Vec<String> = names.iter().map(|(_, cell)| cell(row)).collect();
        cells.extend([count(row.count), percent(row.count_ratio)]);
        if row.is_timed() {
            cells.extend([
                duration(row.time_ns),
                percent(row.time_ratio),
                percent(row.busy_ratio),
            ]);
            cells.extend([row.kernel_ns, row.vmm_ns, row.halted_ns].map(duration));
            if report.preempt_watched {
                cells.push(duration(row.preempted_ns));
            }
            cells.extend([row.min_ns, row.mean_ns, row.max_ns].map(duration));
            if percentiles.is_empty() {
                cells.extend([row.p50_ns, row.p99_ns].map(duration));
            }
            cells.extend(row.percentiles.iter().map(|it| duration(it.ns)));
        } else {
            // No time is something else than none.
            cells.resize(width, "-".into());
        }
        table.add_row(cells);
        for cause in &row.causes {
            table.add_row(cause_cells(cause, names.len()));
        }
        if let Some(at_most) = row.other_causes_at_most.filter(|it| *it > 0) {
            let mut cells = vec![String::new(); names.len().saturating_sub(1)];
            cells.push("  others, each".into());
            cells.push(format!("<={}", count(at_most)));
            table.add_row(cells);
        }
    }
    table
}

/// A cause stands under its row, in the last of the columns that say what it is.
fn cause_cells(cause: &Cause, names: usize) -> Vec<String> {
    let mut cells = vec![String::new(); names.saturating_sub(1)];
    let number = if cause.at_least == cause.at_most {
        count(cause.at_least)
    } else {
        format!("{}-{}", count(cause.at_least), count(cause.at_most))
    };
    cells.extend([
        format!("  {}", with_name(&cause.cause, cause.name.as_deref())),
        number,
        String::new(),
        duration(cause.time_ns),
    ]);
    cells
}

fn vcpus(report: &ExitsReport) -> Table {
    let mut header = vec!["VM", "vCPU", "exits", "guest", "kernel", "VMM", "halted"];
    if report.preempt_watched {
        header.push("preempted");
    }
    header.push("out since");
    let mut table = table(&header, header.len());
    for index in 0..2 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    // Shares of the time that was watched; a vCPU that came later, or did not exit, has less than all.
    let share = |ns: u64| percent(ratio(ns, report.elapsed_ns));
    for row in &report.vcpus {
        let VcpuRow {
            guest_ns,
            kernel_ns,
            vmm_ns,
            halted_ns,
            ..
        } = *row;
        let mut cells = vec![
            format!("{} (pid {})", row.vm, row.pid),
            vcpu_cell(row.vcpu, row.tid).unwrap_or_default(),
            count(row.count),
        ];
        cells.extend([guest_ns, kernel_ns, vmm_ns, halted_ns].map(share));
        if report.preempt_watched {
            cells.push(share(row.preempted_ns));
        }
        cells.push(match row.open_ns {
            0 => String::new(),
            ns => duration(ns),
        });
        table.add_row(cells);
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn vcpu_cell(vcpu: Option<u32>, tid: Option<u32>) -> Option<String> {
    vcpu.map(|index| index.to_string())
        .or_else(|| tid.map(|tid| format!("tid {tid}")))
}

/// What is counted: its number, and beside it what that stands for.
fn key_cell(row: &ExitRow) -> Option<String> {
    let key = row.key.as_ref()?;
    Some(with_name(key, row.name.as_deref()))
}

fn with_name(key: &str, name: Option<&str>) -> String {
    name.map_or_else(|| key.to_owned(), |name| format!("{key} ({name})"))
}

pub(super) fn name_of(row: &ExitRow) -> String {
    let vcpu = vcpu_cell(row.vcpu, row.tid).map(|vcpu| format!("vCPU {vcpu}"));
    let names: Vec<_> = [row.vm.clone(), vcpu, row.reason.clone(), key_cell(row)]
        .into_iter()
        .flatten()
        .collect();
    if names.is_empty() {
        "all exits".into()
    } else {
        names.join(", ")
    }
}

/// A histogram with a line for each power of two; json and csv have finer ones.
fn histogram(row: &ExitRow, look: Look, out: &mut impl Write) -> io::Result<()> {
    const BAR: u64 = 50;
    let title = format!("{}: time from exit to next entry", name_of(row));
    writeln!(out, "\n{INDENT}{}", look.bold(&title))?;
    let lines = by_powers_of_two(&row.histogram);
    let largest = lines.iter().map(|it| it.count).max().unwrap_or(0).max(1);
    for Bucket {
        from_ns,
        to_ns,
        count: exits,
    } in lines
    {
        // A bucket that has anything shows at least a dot.
        let length = (u128::from(exits) * u128::from(BAR)).div_ceil(u128::from(largest));
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        let to = if to_ns == u64::MAX {
            "...".into()
        } else {
            duration(to_ns)
        };
        let line = format!(
            "{INDENT}{:>10} .. {to:<10} {:>14}  {bar}",
            duration(from_ns),
            count(exits)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn by_powers_of_two(buckets: &[Bucket]) -> Vec<Bucket> {
    let mut lines: Vec<Bucket> = Vec::new();
    for bucket in buckets {
        let power = bucket.from_ns.checked_ilog2();
        match lines.last_mut() {
            Some(line) if line.from_ns.checked_ilog2() == power => {
                line.to_ns = bucket.to_ns;
                line.count = line.count.saturating_add(bucket.count);
            }
            _ => lines.push(Bucket {
                from_ns: power.map_or(0, |power| 1 << power),
                ..*bucket
            }),
        }
    }
    // A power of two may go on, empty.
    for line in &mut lines {
        if let Some(power) = line.from_ns.checked_ilog2()
            && line.to_ns != u64::MAX
        {
            line.to_ns = 1 << (power + 1);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Loss, view::Advice};

    fn row(reason: &str, count: u64, time_ns: u64) -> ExitRow {
        ExitRow {
            vm: Some("web".into()),
            pid: Some(7),
            vcpu: Some(0),
            tid: None,
            reason: Some(reason.into()),
            reason_code: Some(0x78),
            isa: Some(2),
            key: None,
            name: None,
            code: None,
            class: None,
            count,
            open: 0,
            untimed: 0,
            count_ratio: 0.5,
            time_ns,
            time_ratio: 0.25,
            busy_ratio: 0.125,
            idle_ns: 0,
            kernel_ns: time_ns,
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: 0,
            min_ns: 1,
            mean_ns: 1_500,
            max_ns: 2_000_000,
            p50_ns: 900,
            p99_ns: 1_900_000,
            percentiles: Vec::new(),
            histogram: [(512, 564, 60), (564, 615, 40), (1024, 1127, 1)]
                .map(|(from_ns, to_ns, count)| Bucket {
                    from_ns,
                    to_ns,
                    count,
                })
                .to_vec(),
            causes: vec![Cause {
                cause: "port 0x3f8 out".into(),
                name: None,
                code: 0x3f8,
                at_least: 90,
                at_most: 95,
                time_ns: 1000,
            }],
            other_causes_at_most: Some(5),
            advice: vec![Advice {
                topic: "halt",
                text: "wait",
            }],
        }
    }

    fn report(loss: Loss) -> ExitsReport {
        ExitsReport {
            view: "exits",
            kind: "vmexit".into(),
            by: vec!["vm", "vcpu", "reason"],
            start_ns: 0,
            elapsed_ns: 2_000_000_000,
            count: 1234,
            time_ns: 5_000_000,
            idle_ns: 0,
            row_count: 3,
            rows: vec![
                row("hlt", 1000, 4_000_000),
                row("UNKNOWN(0x99)", 234, 1_000_000),
            ],
            vcpus: vec![VcpuRow {
                vm: "web".into(),
                pid: 7,
                vcpu: Some(0),
                tid: None,
                count: 1234,
                guest_ns: 1_000_000_000,
                kernel_ns: 5_000_000,
                vmm_ns: 0,
                halted_ns: 0,
                preempted_ns: 0,
                open_ns: 3_000,
            }],
            preempt_watched: false,
            open: 1,
            loss,
        }
    }

    fn text(loss: Loss) -> String {
        let mut out = Vec::new();
        exits(&report(loss), Look::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn exits_are_a_table_with_units() {
        let text = text(Loss::default());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..9],
            [
                "  VM           vCPU  exit reason       count  count%      time   time%   busy%    kernel   VMM  halted   min      mean       max     p50       p99",
                "  web (pid 7)  0     hlt               1,000  50.00%  4.000 ms  25.00%  12.50%  4.000 ms  0 ns    0 ns  1 ns  1.500 us  2.000 ms  900 ns  1.900 ms",
                "                       port 0x3f8 out  90-95          1.000 us",
                "                       others, each      <=5",
                "  web (pid 7)  0     UNKNOWN(0x99)       234  50.00%  1.000 ms  25.00%  12.50%  1.000 ms  0 ns    0 ns  1 ns  1.500 us  2.000 ms  900 ns  1.900 ms",
                "                       port 0x3f8 out  90-95          1.000 us",
                "                       others, each      <=5",
                "  1 more rows (--top leaves them out)",
                "",
            ]
        );
        assert_eq!(lines[9], "  web, vCPU 0, hlt: time from exit to next entry");
        assert_eq!(
            lines[10],
            format!(
                "      512 ns .. 1.024 us              100  {}",
                "#".repeat(50)
            )
        );
        assert_eq!(lines[11], "    1.024 us .. 2.048 us                1  #");
        assert!(
            text.contains("  web (pid 7)  0     1,234  50.00%   0.25%  0.00%   0.00%   3.000 us\n"),
            "{text}"
        );
        assert!(
            text.contains("  what to do (docs/advice.md says why)\n  halt: web, vCPU 0, hlt; web, vCPU 0, UNKNOWN(0x99)\n      wait\n"),
            "{text}"
        );
        assert_eq!(
            lines.last(),
            Some(&"  lost 0, unmatched 0, map full 0, still out of the guest 1")
        );
    }

    #[test]
    fn exits_without_a_time_have_none() {
        let mut report = report(Loss::default());
        report.rows = vec![ExitRow {
            open: 1,
            untimed: 6,
            ..row("io", 7, 0)
        }];
        let mut out = Vec::new();
        exits(&report, Look::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().skip(6).collect();
        assert_eq!(cells[0], "50.00%");
        assert_eq!(cells[1..], ["-"; 11]);
        assert!(text.contains("6 have no time"), "{text}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let loss = Loss {
            lost: 1,
            unmatched: 2000,
            moved: 7,
            map_full: 3,
            unattributed: 4,
            missed: Some(5),
            damaged: 6,
            late: 8,
            sampled: 9,
        };
        let text = text(loss);
        assert!(
            text.contains("lost 1, unmatched 2,000, map full 3"),
            "{text}"
        );
        assert_eq!(text.matches("incomplete: ").count(), 9, "{text}");
        let unknown = Loss {
            missed: None,
            ..Loss::default()
        };
        let text = self::text(unknown);
        assert!(text.contains("missed: not known"), "{text}");
        assert!(!text.contains("incomplete"), "{text}");
    }
}
