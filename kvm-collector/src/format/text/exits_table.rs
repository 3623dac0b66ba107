//! The table of an `exits` report: a line per row, followed by its most frequent causes.

use super::{
    exits_columns::{NumberColumn, number_columns},
    style::TextStyle,
    table::TextTable,
};
use crate::{
    format::row_names::{as_text, key_name, vcpu_name, vm_name, with_name},
    view::{ExitRow, ExitsReport},
};

/// A column's header, and the function that returns its cell of a row.
type NameColumn = (&'static str, fn(&ExitRow) -> String);

/// Returns the columns that identify a row.
fn name_columns(report: &ExitsReport) -> Vec<NameColumn> {
    let has = |field: fn(&ExitRow) -> bool| report.rows.iter().any(field);
    let mut columns: Vec<NameColumn> = Vec::new();
    if has(|row| row.host.is_some()) {
        columns.push(("host", |row| {
            row.host
                .as_ref()
                .map_or_else(String::new, |it| it.label().to_owned())
        }));
    }
    if has(|row| row.vm.is_some()) {
        columns.push(("VM", |row| {
            let vm = row.vm.as_deref().zip(row.pid);
            vm.map_or_else(String::new, |(name, pid)| vm_name(name, pid, as_text))
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

/// Creates the table with the requested columns, or the usual ones that fit into a line. Also returns the headings of those that
/// do not fit.
pub(super) fn exits_table(
    report: &ExitsReport,
    requested: &[String],
    style: TextStyle,
) -> (TextTable, Vec<String>) {
    let names = name_columns(report);
    let percentiles: Vec<f64> = report.rows.first().map_or(Vec::new(), |row| {
        row.percentiles.iter().map(|it| it.percent).collect()
    });
    let numbers = number_columns(requested, &percentiles, report.preempt_watched);
    let mut header: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    header.extend(numbers.iter().map(|it| it.heading.as_str()));
    let mut table = TextTable::new(&header, 0..names.len());
    // What is not a row of its own has its name in the last column of names.
    let sub_row = |name: String, cell: &dyn Fn(&NumberColumn) -> String| {
        let mut cells = vec![String::new(); names.len().saturating_sub(1)];
        cells.push(name);
        cells.extend(numbers.iter().map(cell));
        cells
    };
    for row in &report.rows {
        let mut cells: Vec<String> = names.iter().map(|(_, cell)| cell(row)).collect();
        cells.extend(numbers.iter().map(|it| it.cell(row)));
        table.add_row(cells);
        for cause in &row.causes {
            let name = format!("  {}", with_name(&cause.cause, cause.cause_name.as_deref()));
            table.add_row(sub_row(name, &|it| it.cause_cell(cause)));
        }
        if let Some(at_most) = row.other_causes_at_most.filter(|it| *it > 0) {
            let name = "  others, each".into();
            table.add_row(sub_row(name, &|it| it.other_causes_cell(at_most)));
        }
    }
    let mut hidden = Vec::new();
    if let Some(max_width) = style.max_width {
        let ranks = names.iter().map(|_| 0);
        let ranks: Vec<u8> = ranks.chain(numbers.iter().map(|it| it.rank)).collect();
        let positions = table.fit_width(&ranks, max_width);
        hidden.extend(positions.iter().map(|at| header[*at].to_owned()));
    }
    (table, hidden)
}
