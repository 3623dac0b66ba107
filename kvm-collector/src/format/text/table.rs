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

/// Width below which a column of text is not shortened.
const MIN_TEXT_WIDTH: usize = 12;

/// A table. Its cells may be text from outside: they are escaped, shortened, and aligned by their width on the terminal.
#[derive(Debug)]
pub(super) struct TextTable {
    header: Vec<String>,
    /// The columns of text. The others have numbers.
    left: Range<usize>,
    /// The columns whose cells are shortened at the start.
    keeps_end: Range<usize>,
    rows: Vec<Vec<String>>,
    /// The columns that are not shown, sorted.
    hidden: Vec<usize>,
}

impl TextTable {
    /// Creates an empty table. The columns in `left` are aligned to the left, the others to the right.
    pub(super) fn new(header: &[&str], left: Range<usize>) -> Self {
        Self {
            header: header.iter().map(|it| (*it).to_owned()).collect(),
            left,
            keeps_end: 0..0,
            rows: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Shortens the cells of these columns at their start if they are too long, as is best for paths.
    pub(super) fn keep_end(mut self, columns: Range<usize>) -> Self {
        self.keeps_end = columns;
        self
    }

    /// Adds a row with a cell for each column.
    pub(super) fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        let shown = |cell: String| {
            OutsideText::new(&cell)
                .shortened(MAX_CELL_WIDTH)
                .into_owned()
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    /// Makes the lines at most `max_width` columns of the terminal wide, as far as possible: hides columns, those with the highest
    /// rank first, and then shortens columns of text, the widest first. Columns of rank 0 are never hidden. Returns the positions of
    /// the hidden columns.
    pub(super) fn fit_width(&mut self, ranks: &[u8], max_width: usize) -> &[usize] {
        let mut widths = self.widths();
        // Each column is followed by two spaces, or preceded by the indentation.
        let mut width: usize = widths.iter().map(|it| it + 2).sum();
        let mut order: Vec<usize> = (0..ranks.len()).filter(|at| ranks[*at] > 0).collect();
        order.sort_by_key(|at| std::cmp::Reverse(ranks[*at]));
        for at in order {
            if width <= max_width {
                break;
            }
            width -= widths[at] + 2;
            self.hidden.push(at);
        }
        self.hidden.sort_unstable();
        while width > max_width
            && let Some(widest) = self.left.clone().max_by_key(|at| widths[*at])
            && widths[widest] > MIN_TEXT_WIDTH
        {
            // Columns of equal width are shortened together.
            widths[widest] -= 1;
            width -= 1;
        }
        for at in self.left.clone() {
            for row in &mut self.rows {
                if let Some(cell) = row.get_mut(at) {
                    *cell = shorten(cell, widths[at], self.keeps_end.contains(&at));
                }
            }
        }
        &self.hidden
    }

    /// Returns the widths of the columns.
    fn widths(&self) -> Vec<usize> {
        let width = |text: &String| OutsideText::new(text).width();
        let mut widths: Vec<_> = self.header.iter().map(width).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        widths
    }

    /// Returns the table of the columns that are shown.
    fn layout(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((1, 1));
            if !self.left.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if self.hidden.contains(&index) {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        table
    }

    /// Writes the table with an indented, bold header.
    pub(super) fn write(&self, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
        for (index, line) in self.layout().lines().enumerate() {
            let line = format!(" {}", line.trim_end());
            writeln!(out, "{}", if index == 0 { style.bold(&line) } else { line })?;
        }
        Ok(())
    }
}

/// Shortens a cell. The process id at the end of a VM stays, because it distinguishes VMs of the same name.
fn shorten(cell: &str, width: usize, keeps_end: bool) -> String {
    if keeps_end {
        return OutsideText::new(cell)
            .shortened_at_start(width)
            .into_owned();
    }
    let pid = cell.rfind(PID_START).map(|at| cell.split_at(at));
    match pid {
        Some((name, pid)) if pid.len() + MIN_NAME_WIDTH <= width => {
            let name = OutsideText::new(name).shortened(width - pid.len());
            format!("{name}{pid}")
        }
        _ => OutsideText::new(cell).shortened(width).into_owned(),
    }
}

/// Start of the process id that follows a VM's name.
const PID_START: &str = " (pid ";

/// Width of the shortest name before a process id.
const MIN_NAME_WIDTH: usize = 4;

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
    fn text_is_shortened_after_columns_are_hidden() {
        let mut table = TextTable::new(&["VM", "reason", "exits", "max"], 0..2);
        let cells = ["database-primary-eu (pid 1234)", "EPT_MISCONFIG", "12", "3"];
        table.add_row(cells.map(str::to_owned));
        assert_eq!(table.fit_width(&[0, 0, 0, 1], 44), [3]);
        let mut out = Vec::new();
        table.write(TextStyle::default(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  VM                    reason         exits\n  databa... (pid 1234)  EPT_MISCONFIG     12\n"
        );
        let mut table = TextTable::new(&["recording"], 0..1).keep_end(0..1);
        table.add_row(["hosts/of/a/rack/a.data".to_owned()]);
        table.fit_width(&[0], 20);
        let mut out = Vec::new();
        table.write(TextStyle::default(), &mut out).unwrap();
        assert!(out.ends_with(b"  ...f/a/rack/a.data\n"), "{out:?}");
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
