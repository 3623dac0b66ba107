//! Writes a table to several Parquet files, one per day, in folders that query engines take as columns: `dt=2026-11-25/host=web-1/`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{
    Parquet,
    sink::{Gap, RecordingEnd},
    table::{Cell, RowType, TableWriter},
};
use crate::view::{ReportOrigin, UtcTime};

const NS_PER_DAY: u64 = 86_400_000_000_000;

/// Maximum number of days in one recording. A damaged recording may contain any time.
const MAX_DAYS: usize = 400;

/// The Parquet files of a recording.
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub struct Partitioned<F, W: Write + Send> {
    row_type: RowType,
    origin: ReportOrigin,
    /// Creates the file of a day.
    create: F,
    /// The files, by day since 1970 (UTC).
    days: BTreeMap<u64, Parquet<W>>,
    time_column: usize,
}

impl<F, W> Partitioned<F, W>
where
    F: FnMut(&str) -> io::Result<W>,
    W: Write + Send,
{
    /// Creates a writer without files. `create` gets the path of a folder, such as `dt=2026-11-25/host=web-1`, for each day with
    /// rows, and creates a file there.
    pub fn new(row_type: RowType, origin: ReportOrigin, create: F) -> Self {
        let time_column = row_type.columns().position(|it| it.0 == "time");
        Self {
            row_type,
            origin,
            create,
            days: BTreeMap::new(),
            time_column: time_column.unwrap_or_default(),
        }
    }

    fn file_of(&mut self, unix_ns: u64) -> io::Result<&mut Parquet<W>> {
        let day = unix_ns / NS_PER_DAY;
        if !self.days.contains_key(&day) {
            if self.days.len() >= MAX_DAYS {
                return Err(io::Error::other(format!(
                    "the recording has events on more than {MAX_DAYS} days, so its times are damaged: select a part with --from and --until"
                )));
            }
            let start = UtcTime {
                ns: day * NS_PER_DAY,
            };
            let date = start.to_string();
            let date = date.get(..10).unwrap_or_default();
            let host = escape(self.origin.host.as_deref().unwrap_or("unknown"));
            let out = (self.create)(&format!("dt={date}/host={host}"))?;
            let file = Parquet::new(self.row_type, &self.origin, out)?;
            self.days.insert(day, file);
        }
        self.days
            .get_mut(&day)
            .ok_or_else(|| io::Error::other("no file"))
    }
}

impl<F, W> TableWriter for Partitioned<F, W>
where
    F: FnMut(&str) -> io::Result<W>,
    W: Write + Send,
{
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let Some(Cell::Time(time)) = cells.get(self.time_column) else {
            return Err(io::Error::other(
                "the recording does not contain the date, so it has no days",
            ));
        };
        self.file_of(time.ns)?.row(cells)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        match self.days.last_entry() {
            Some(mut last) => last.get_mut().gap(gap),
            None => Ok(()),
        }
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        for file in self.days.values_mut() {
            file.finish(end)?;
        }
        Ok(())
    }
}

/// Escapes the value of a column in the name of a folder, as Hive does: `%` and two digits for each byte that is not a letter, a
/// digit, or one of `-_.`.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_in_names_of_folders() {
        assert_eq!(escape("web-1.example.org"), "web-1.example.org");
        assert_eq!(escape("../a b"), "..%2Fa%20b");
    }
}
