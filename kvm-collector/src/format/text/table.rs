//! Tables of aligned columns without borders.

use std::{
    io::{self, Write},
    ops::Range,
};

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::style::TextStyle;

/// Indentation of every line of a report.
pub(super) const INDENT: &str = "  ";

/// Creates an empty table. The columns in `left` are aligned to the left, the others to the right.
pub(super) fn new_table(header: &[&str], left: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.iter().copied());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((1, 1));
        if !left.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Writes a table with an indented, bold header.
pub(super) fn write_table(table: &Table, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for (index, line) in table.lines().enumerate() {
        let line = format!(" {}", line.trim_end());
        writeln!(out, "{}", if index == 0 { style.bold(&line) } else { line })?;
    }
    Ok(())
}
