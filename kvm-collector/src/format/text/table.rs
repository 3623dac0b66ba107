//! Tables of aligned columns without borders.

use std::{
    io::{self, Write},
    ops::Range,
};

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets::NOTHING};

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

/// Hides columns until the lines have at most `max_width` characters, those with the highest rank first. Columns of rank 0 are
/// never hidden. Returns the positions of the hidden columns.
pub(super) fn fit_width(table: &mut Table, ranks: &[u8], max_width: usize) -> Vec<usize> {
    let widths = table.column_max_content_widths();
    // Each column is followed by two spaces, or preceded by the indentation.
    let mut width: usize = widths.iter().map(|it| usize::from(*it) + 2).sum();
    let mut order: Vec<usize> = (0..ranks.len()).filter(|at| ranks[*at] > 0).collect();
    order.sort_by_key(|at| std::cmp::Reverse(ranks[*at]));
    let mut hidden = Vec::new();
    for at in order {
        if width <= max_width {
            break;
        }
        width -= usize::from(widths[at]) + 2;
        hidden.push(at);
    }
    for at in &hidden {
        if let Some(column) = table.column_mut(*at) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    hidden.sort_unstable();
    hidden
}

/// Writes a table with an indented, bold header.
pub(super) fn write_table(table: &Table, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    for (index, line) in table.lines().enumerate() {
        let line = format!(" {}", line.trim_end());
        writeln!(out, "{}", if index == 0 { style.bold(&line) } else { line })?;
    }
    Ok(())
}
