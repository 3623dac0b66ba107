//! Tables of exits or events: their columns, and the interface that writes their rows.

use std::io;

use super::sink::{Gap, RecordingEnd};
use crate::view::{Hex, UtcTime};

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
    /// An unsigned 64-bit number that CSV has in hexadecimal, such as `0xffffffff81000000`: an address or the number of a port.
    Hex,
    /// A boolean.
    Bool,
    /// UTF-8 text.
    Text,
    /// A JSON object.
    Json,
}

/// A column: its name, its type, and whether its values can be null.
pub type Column = (&'static str, ColumnType, bool);

/// The position of the column `time_ns`.
pub(super) const TIME_NS_COLUMN: usize = 0;

/// The position of the column `time`.
pub(super) const TIME_COLUMN: usize = 1;

const COMMON_COLUMNS: [Column; 11] = [
    ("time_ns", ColumnType::I64, false),
    ("time", ColumnType::WallTime, true),
    ("host", ColumnType::Text, true),
    ("boot_id", ColumnType::Text, true),
    ("cpu", ColumnType::U32, false),
    ("pid", ColumnType::U32, false),
    ("tid", ColumnType::U32, false),
    ("comm", ColumnType::Text, false),
    ("vm", ColumnType::Text, false),
    ("vm_uuid", ColumnType::Text, true),
    ("vcpu", ColumnType::U32, true),
];

const EXIT_COLUMNS: [Column; 16] = [
    ("reason", ColumnType::Text, false),
    ("reason_code", ColumnType::U64, false),
    ("isa", ColumnType::Text, false),
    ("duration_ns", ColumnType::I64, true),
    ("kernel_ns", ColumnType::I64, true),
    ("vmm_ns", ColumnType::I64, true),
    ("halted_ns", ColumnType::I64, true),
    ("preempted_ns", ColumnType::I64, true),
    ("idle_ns", ColumnType::I64, true),
    ("cause_kind", ColumnType::Text, true),
    ("cause_code", ColumnType::Hex, true),
    ("cause", ColumnType::Text, true),
    ("cause_name", ColumnType::Text, true),
    ("guest_rip", ColumnType::Hex, false),
    ("is_open", ColumnType::Bool, false),
    ("is_untimed", ColumnType::Bool, false),
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
}

/// The value of a column in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A number. In signed columns, it is less than 2^63.
    Number(u64),
    /// A number that text has in hexadecimal.
    Hex(Hex),
    /// A time.
    Time(UtcTime),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text, which may be from outside.
    Text(&'a str),
    /// A JSON object, which is valid only as it is.
    Json(&'a str),
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
    use kvm_ebpf_common::{Key, SpanBreakdown};

    use super::*;
    use crate::{
        model::{Exit, ExitEnd, Segment, VcpuId, VcpuState},
        timing::TimingRequest,
        view::{ExitRecords, ReportOrigin, SelectedBy},
    };

    #[test]
    fn column_names_are_unique() {
        for columns in [RowType::Exits, RowType::Events] {
            let mut names: Vec<_> = columns.columns().map(|it| it.0).collect();
            let count = names.len();
            assert_eq!(names[TIME_NS_COLUMN], "time_ns");
            assert_eq!(names[TIME_COLUMN], "time");
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn columns_of_exits_are_the_fields_of_their_json() {
        let exit = Exit {
            key: Key::default(),
            guest_rip: 0,
            cause: None,
            parts: SpanBreakdown::default(),
            end: ExitEnd::Entry,
        };
        let segment = Segment {
            vcpu_id: VcpuId::default(),
            cpu: 0,
            from_ns: 0,
            to_ns: 0,
            state: VcpuState::Exit(exit),
        };
        let origin = ReportOrigin::new(SelectedBy::default());
        let mut records = ExitRecords::new(TimingRequest::default(), origin);
        let json = serde_json::to_string(&records.record(&segment, &exit, "", &"".into())).unwrap();
        let position = |name: &str| json.find(&format!("\"{name}\":"));
        // Only exits with a time are written as JSON.
        let columns = RowType::Exits.columns().map(|it| it.0);
        let names: Vec<_> = columns
            .filter(|it| !matches!(*it, "is_open" | "is_untimed"))
            .collect();
        let positions: Vec<_> = names.iter().map(|it| position(it)).collect();
        assert!(positions.iter().all(Option::is_some), "{json}");
        assert!(positions.is_sorted(), "{json}");
        assert_eq!(json.matches("\":").count(), names.len(), "{json}");
    }
}
