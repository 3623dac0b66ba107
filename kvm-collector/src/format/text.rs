//! Text for people: aligned columns with units, and below them what is missing.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::units::{count, duration, percent, rate};
use crate::{
    model::Loss,
    view::{Bucket, ExitRow, ExitsReport, StatEvent, StatReport},
};

/// How text looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Use colour.
    pub color: bool,
    /// Also show rows that are zero.
    pub zeros: bool,
}

impl Look {
    fn bold(self, text: &str) -> String {
        if self.color {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn warning(self, text: &str) -> String {
        if self.color {
            format!("\x1b[33m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a `stat` report.
///
/// # Errors
/// When writing fails.
pub fn stat(report: &StatReport, look: Look, out: &mut impl Write) -> io::Result<()> {
    let shown = |event: &&StatEvent| look.zeros || event.count > 0;
    let mut table = table(&["count", "rate/s", "event"], 2);
    for event in report.events.iter().filter(shown) {
        table.add_row([
            count(event.count),
            rate(event.rate_per_s),
            event.event.clone(),
        ]);
    }
    write_table(&table, look, out)?;
    let silent = report
        .events
        .iter()
        .filter(|event| event.count == 0)
        .count();
    if silent > 0 && !look.zeros {
        writeln!(
            out,
            "{}{silent} of {} events did not happen (--zeros shows them)",
            INDENT,
            report.events.len()
        )?;
    }
    for vm in &report.vms {
        writeln!(
            out,
            "\n{}",
            look.bold(&format!("{} (pid {})", vm.vm, vm.pid))
        )?;
        let mut table = self::table(&["count", "rate/s", "event"], 2);
        for event in &vm.events {
            table.add_row([
                count(event.count),
                rate(event.rate_per_s),
                event.event.clone(),
            ]);
        }
        write_table(&table, look, out)?;
    }
    writeln!(out, "\n{INDENT}{} elapsed", duration(report.elapsed_ns))?;
    loss(&report.loss, 0, look, out)
}

/// Writes an `exits` report.
///
/// # Errors
/// When writing fails.
pub fn exits(report: &ExitsReport, look: Look, out: &mut impl Write) -> io::Result<()> {
    let has = |field: fn(&ExitRow) -> bool| report.rows.iter().any(field);
    let (vm, vcpu, reason) = (
        has(|row| row.vm.is_some()),
        has(|row| row.vcpu.is_some() || row.tid.is_some()),
        has(|row| row.reason.is_some()),
    );
    let mut header = Vec::new();
    for (shown, name) in [(vm, "VM"), (vcpu, "vCPU"), (reason, "exit reason")] {
        if shown {
            header.push(name);
        }
    }
    let names = header.len();
    header.extend([
        "count", "count%", "time", "time%", "min", "mean", "max", "~p50", "~p99",
    ]);
    let mut table = table(&header, header.len());
    for index in 0..names {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    for row in &report.rows {
        let mut cells = Vec::with_capacity(header.len());
        if let (Some(vm), Some(pid)) = (&row.vm, row.pid) {
            cells.push(format!("{vm} (pid {pid})"));
        }
        cells.extend(vcpu_cell(row));
        cells.extend(row.reason.clone());
        cells.extend([
            count(row.count),
            percent(row.count_ratio),
            duration(row.time_ns),
            percent(row.time_ratio),
        ]);
        cells.extend([row.min_ns, row.mean_ns, row.max_ns, row.p50_ns, row.p99_ns].map(duration));
        table.add_row(cells);
    }
    if report.rows.is_empty() {
        writeln!(out, "{INDENT}no VM exits")?;
    } else {
        write_table(&table, look, out)?;
    }
    let hidden = report.row_count - report.rows.len();
    if hidden > 0 {
        writeln!(out, "{INDENT}{hidden} more rows (--top leaves them out)")?;
    }
    for row in report.rows.iter().filter(|row| !row.histogram.is_empty()) {
        histogram(row, look, out)?;
    }
    writeln!(
        out,
        "\n{INDENT}{} exits, {} from exit to next entry, in {}",
        count(report.count),
        duration(report.time_ns),
        duration(report.elapsed_ns)
    )?;
    if !report.rows.is_empty() {
        writeln!(
            out,
            "{INDENT}~p50 and ~p99 are estimated from a log2 histogram"
        )?;
    }
    loss(&report.loss, report.open, look, out)
}

fn vcpu_cell(row: &ExitRow) -> Option<String> {
    row.vcpu
        .map(|index| index.to_string())
        .or_else(|| row.tid.map(|tid| format!("tid {tid}")))
}

fn histogram(row: &ExitRow, look: Look, out: &mut impl Write) -> io::Result<()> {
    const BAR: u64 = 50;
    let title: Vec<_> = row
        .vm
        .clone()
        .into_iter()
        .chain(vcpu_cell(row).map(|vcpu| format!("vCPU {vcpu}")))
        .chain(row.reason.clone())
        .collect();
    let title = if title.is_empty() {
        "all exits".into()
    } else {
        title.join(", ")
    };
    writeln!(
        out,
        "\n{INDENT}{}",
        look.bold(&format!("{title}: time from exit to next entry"))
    )?;
    let largest = row
        .histogram
        .iter()
        .map(|bucket| bucket.count)
        .max()
        .unwrap_or(0)
        .max(1);
    for Bucket {
        from_ns,
        to_ns,
        count: exits,
    } in &row.histogram
    {
        // A bucket that has anything shows at least a dot.
        let length = (u128::from(*exits) * u128::from(BAR)).div_ceil(u128::from(largest));
        let bar = "#".repeat(usize::try_from(length).unwrap_or(0));
        let to = if *to_ns == u64::MAX {
            "...".into()
        } else {
            duration(*to_ns)
        };
        writeln!(
            out,
            "{INDENT}{:>10} .. {:<10} {:>14}  {bar}",
            duration(*from_ns),
            to,
            count(*exits)
        )?;
    }
    Ok(())
}

/// Says what is missing, or that nothing is.
fn loss(loss: &Loss, open: u64, look: Look, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{INDENT}lost {}, unmatched {}, map full {}{}",
        count(loss.lost),
        count(loss.unmatched),
        count(loss.map_full),
        if open > 0 {
            format!(", still out of the guest {}", count(open))
        } else {
            String::new()
        },
    )?;
    for (number, what) in [
        (
            loss.lost,
            "events could not be queued for user space: they are counted, but not shown",
        ),
        (
            loss.unmatched,
            "exits were followed by another exit without an entry: they are in no row",
        ),
        (
            loss.map_full,
            "exits are in no row because the table was full: give a larger --max-rows",
        ),
        (
            loss.unattributed,
            "events were left out because their thread's vCPU is not known",
        ),
        (
            loss.missed,
            "events were not seen because a program was running on that CPU already",
        ),
    ] {
        if number > 0 {
            let text = format!("{INDENT}incomplete: {} {what}", count(number));
            writeln!(out, "{}", look.warning(&text))?;
        }
    }
    Ok(())
}

const INDENT: &str = "  ";

/// A table without lines; the first `right` columns are aligned to the right.
fn table(header: &[&str], right: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().copied());
    for index in 0..right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((1, 1));
    }
    table
}

fn write_table(table: &Table, look: Look, out: &mut impl Write) -> io::Result<()> {
    for (index, line) in table.lines().enumerate() {
        let line = format!(" {}", line.trim_end());
        writeln!(out, "{}", if index == 0 { look.bold(&line) } else { line })?;
    }
    Ok(())
}
