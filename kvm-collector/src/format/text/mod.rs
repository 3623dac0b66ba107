//! Text for people: aligned columns with units, and below them what is missing.

mod advice;
mod diff;
mod exits;

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::units::{self, count, duration, rate};
use crate::{
    model::Loss,
    view::{StatEvent, StatReport},
};

pub use diff::exits_diff;
pub use exits::{exits, slow_exit};

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
    for entry in loss.entries() {
        match entry.count {
            None => {
                writeln!(out, "{INDENT}{}: not known before Linux 6.7", entry.name)?;
            }
            Some(0) => {}
            Some(number) => {
                let text = format!("{INDENT}incomplete: {} {}", count(number), entry.meaning);
                writeln!(out, "{}", look.warning(&text))?;
            }
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
