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
            "events did not fit into the buffer: they are in no row",
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
        (
            loss.damaged,
            "places of the recording are damaged or cut off: what was there is in no row",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reason: &str, count: u64, time_ns: u64) -> ExitRow {
        ExitRow {
            vm: Some("web".into()),
            pid: Some(7),
            vcpu: Some(0),
            tid: None,
            reason: Some(reason.into()),
            reason_code: Some(0x78),
            isa: Some(2),
            count,
            open: 0,
            count_ratio: 0.5,
            time_ns,
            time_ratio: 0.25,
            min_ns: 1,
            mean_ns: 1_500,
            max_ns: 2_000_000,
            p50_ns: 900,
            p99_ns: 1_900_000,
            histogram: vec![
                Bucket {
                    from_ns: 512,
                    to_ns: 1024,
                    count: 100,
                },
                Bucket {
                    from_ns: 1024,
                    to_ns: 2048,
                    count: 1,
                },
            ],
        }
    }

    fn report(loss: Loss) -> ExitsReport {
        ExitsReport {
            view: "exits",
            elapsed_ns: 2_000_000_000,
            count: 1234,
            time_ns: 5_000_000,
            row_count: 3,
            rows: vec![
                row("hlt", 1000, 4_000_000),
                row("UNKNOWN(0x99)", 234, 1_000_000),
            ],
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
            lines[..5],
            [
                "  VM           vCPU  exit reason    count  count%      time   time%   min      mean       max    ~p50      ~p99",
                "  web (pid 7)  0     hlt            1,000  50.00%  4.000 ms  25.00%  1 ns  1.500 us  2.000 ms  900 ns  1.900 ms",
                "  web (pid 7)  0     UNKNOWN(0x99)    234  50.00%  1.000 ms  25.00%  1 ns  1.500 us  2.000 ms  900 ns  1.900 ms",
                "  1 more rows (--top leaves them out)",
                "",
            ]
        );
        assert_eq!(lines[5], "  web, vCPU 0, hlt: time from exit to next entry");
        assert_eq!(
            lines[6],
            format!(
                "      512 ns .. 1.024 us              100  {}",
                "#".repeat(50)
            )
        );
        assert_eq!(lines[7], "    1.024 us .. 2.048 us                1  #");
        assert_eq!(
            lines.last(),
            Some(&"  lost 0, unmatched 0, map full 0, still out of the guest 1")
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let loss = Loss {
            lost: 1,
            unmatched: 2000,
            map_full: 3,
            unattributed: 4,
            missed: 5,
            damaged: 6,
        };
        let text = text(loss);
        assert!(
            text.contains("lost 1, unmatched 2,000, map full 3"),
            "{text}"
        );
        assert_eq!(text.matches("incomplete: ").count(), 6, "{text}");
    }
}
