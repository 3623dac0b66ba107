//! Tables of aligned columns without borders.

use std::{
    io::{self, Write},
    ops::Range,
};

use comfy_table::{CellAlignment, ColumnConstraint, Table, presets::NOTHING};

use super::style::TextStyle;
use crate::outside_text::OutsideText;

/// Indentation of every line of a report.
pub(super) const INDENT: &str = "  ";

/// Maximum width of a cell. Only text from outside can be longer.
const MAX_CELL_WIDTH: usize = 96;

/// A table. Its cells may be text from outside: they are escaped, shortened, and aligned by their width on the terminal.
#[derive(Debug)]
pub(super) struct TextTable(Table);

impl TextTable {
    /// Creates an empty table. The columns in `left` are aligned to the left, the others to the right.
    pub(super) fn new(header: &[&str], left: Range<usize>) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(header.iter().copied());
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((1, 1));
            if !left.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self(table)
    }

    /// Adds a row with a cell for each column.
    pub(super) fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| {
            OutsideText::new(&cell)
                .shortened(MAX_CELL_WIDTH)
                .into_owned()
        };
        self.0.add_row(cells.into_iter().map(shown));
    }

    /// Hides columns until the lines have at most `max_width` characters, those with the highest rank first. Columns of rank 0 are
    /// never hidden. Returns the positions of the hidden columns.
    pub(super) fn fit_width(&mut self, ranks: &[u8], max_width: usize) -> Vec<usize> {
        let widths = self.0.column_max_content_widths();
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
            if let Some(column) = self.0.column_mut(*at) {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        hidden.sort_unstable();
        hidden
    }

    /// Writes the table with an indented, bold header.
    pub(super) fn write(&self, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
        for (index, line) in self.0.lines().enumerate() {
            let line = format!(" {}", line.trim_end());
            writeln!(out, "{}", if index == 0 { style.bold(&line) } else { line })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: [&str; 2]) -> Vec<String> {
        let mut table = TextTable::new(&["VM", "exits"], 0..1);
        table.add_row(["web-1".to_owned(), "12".to_owned()]);
        table.add_row(cells.map(str::to_owned));
        let mut out = Vec::new();
        table.write(TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn columns_are_aligned_by_width() {
        assert_eq!(
            written(["データ", "3"]),
            ["  VM      exits", "  web-1      12", "  データ      3"]
        );
        assert_eq!(
            written(["e\u{301}e\u{301}e\u{301}", "3"])[2],
            "  e\u{301}e\u{301}e\u{301}        3"
        );
    }

    #[test]
    fn cells_are_one_line_without_control_characters() {
        assert_eq!(
            written(["a\n\x1b[2Jb\u{202e}", "3"])[1..],
            [
                "  web-1                   12",
                r"  a\n\x1b[2Jb\u{202e}      3"
            ]
        );
    }

    #[test]
    fn long_cells_are_shortened() {
        let lines = written([&"x".repeat(4096), "3"]);
        assert!(lines[2].contains("xxx... "), "{lines:?}");
        assert!(
            lines.iter().all(|it| it.len() <= MAX_CELL_WIDTH + 9),
            "{lines:?}"
        );
    }
}
