//! The table of an `exits` report: a line per row, followed by its most frequent causes.

use comfy_table::Table;

use super::table::new_table;
use crate::{
    format::{
        row_names::{key_name, vcpu_name, with_name},
        units::{count, duration, percent},
    },
    view::{CauseRow, ExitRow, ExitsReport},
};

/// A column's header, and the function that returns its cell of a row.
type Column = (&'static str, fn(&ExitRow) -> String);

/// Returns the columns that identify a row.
fn name_columns(report: &ExitsReport) -> Vec<Column> {
    let has = |field: fn(&ExitRow) -> bool| report.rows.iter().any(field);
    let mut columns: Vec<Column> = Vec::new();
    if has(|row| row.vm.is_some()) {
        columns.push(("VM", |row| match (&row.vm, row.pid) {
            (Some(vm), Some(0)) => vm.clone(),
            (Some(vm), Some(pid)) => format!("{vm} (pid {pid})"),
            _ => String::new(),
        }));
    }
    if has(|row| row.vcpu.is_some() || row.tid.is_some()) {
        columns.push(("vCPU", |row| {
            vcpu_name(row.vcpu, row.tid).unwrap_or_default()
        }));
    }
    if has(|row| row.reason.is_some()) {
        columns.push(("exit reason", |row| row.reason.clone().unwrap_or_default()));
    }
    if has(|row| row.key.is_some()) {
        columns.push(("event", |row| key_name(row).unwrap_or_default()));
    }
    columns
}

/// Creates the table.
pub(super) fn exits_table(report: &ExitsReport) -> Table {
    let names = name_columns(report);
    let percentiles: Vec<String> = report.rows.first().map_or(Vec::new(), |row| {
        let percentiles = row.percentiles.iter();
        percentiles.map(|it| format!("p{}", it.percent)).collect()
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
    let mut table = new_table(&header, 0..names.len());
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
            // "-" means that no exit has a duration, in contrast to a duration of 0.
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

/// Returns the cells of a cause. It is below its row, in the last of the columns that identify the row.
fn cause_cells(cause: &CauseRow, name_columns: usize) -> Vec<String> {
    let mut cells = vec![String::new(); name_columns.saturating_sub(1)];
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
