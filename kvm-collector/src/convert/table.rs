//! Tables of exits or events: their columns, and the interface that writes their rows.

use std::io;

use super::sink::{Gap, RecordingEnd};

/// What a row of a table represents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowType {
    /// One row per exit.
    Exits,
    /// One row per event.
    Events,
}

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// An unsigned 32-bit number.
    U32,
    /// An unsigned 64-bit number.
    U64,
    /// A signed 64-bit number.
    I64,
    /// A time in nanoseconds since 1970, UTC.
    WallTime,
    /// A boolean.
    Bool,
    /// UTF-8 text.
    Text,
    /// A JSON object.
    Json,
}

/// A column: its name, its type, and whether its values can be null.
pub type Column = (&'static str, ColumnType, bool);

const COMMON_COLUMNS: [Column; 8] = [
    ("time_ns", ColumnType::I64, false),
    ("time", ColumnType::WallTime, true),
    ("cpu", ColumnType::U32, false),
    ("pid", ColumnType::U32, false),
    ("tid", ColumnType::U32, false),
    ("comm", ColumnType::Text, false),
    ("vm", ColumnType::Text, false),
    ("vcpu", ColumnType::U32, true),
];

const EXIT_COLUMNS: [Column; 11] = [
    ("reason", ColumnType::Text, false),
    ("reason_code", ColumnType::U64, false),
    ("isa", ColumnType::U32, false),
    ("duration_ns", ColumnType::I64, true),
    ("kernel_ns", ColumnType::I64, true),
    ("vmm_ns", ColumnType::I64, true),
    ("halted_ns", ColumnType::I64, true),
    ("preempted_ns", ColumnType::I64, true),
    ("guest_rip", ColumnType::U64, false),
    ("open", ColumnType::Bool, false),
    ("untimed", ColumnType::Bool, false),
];

const EVENT_COLUMNS: [Column; 4] = [
    ("system", ColumnType::Text, false),
    ("event", ColumnType::Text, false),
    ("text", ColumnType::Text, false),
    ("fields", ColumnType::Json, false),
];

impl RowType {
    /// Returns the columns in order.
    pub fn columns(self) -> impl Iterator<Item = Column> {
        let specific_columns = match self {
            Self::Exits => &EXIT_COLUMNS[..],
            Self::Events => &EVENT_COLUMNS[..],
        };
        COMMON_COLUMNS
            .into_iter()
            .chain(specific_columns.iter().copied())
    }

    /// Returns the name of the column that identifies what a row is about. In rows about lost events, it
    /// contains a label.
    #[must_use]
    pub const fn subject_column(self) -> &'static str {
        match self {
            Self::Exits => "reason",
            Self::Events => "event",
        }
    }
}

/// The value of a column in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A number. In signed columns, it is less than 2^63.
    Number(u64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(&'a str),
}

/// Writes the rows of a table.
pub trait TableWriter {
    /// Writes a row with a cell for each column.
    ///
    /// # Errors
    /// If writing fails.
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()>;

    /// Writes a gap.
    ///
    /// # Errors
    /// If writing fails.
    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()>;

    /// Ends the table.
    ///
    /// # Errors
    /// If writing fails.
    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_are_unique() {
        for columns in [RowType::Exits, RowType::Events] {
            let mut names: Vec<_> = columns.columns().map(|it| it.0).collect();
            assert!(names.contains(&columns.subject_column()));
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }
}
