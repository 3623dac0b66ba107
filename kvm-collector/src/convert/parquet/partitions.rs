//! Writes tables as several Parquet files in folders that are named by the values of columns, as in Hive:
//! `dt=2026-11-25/host=web/exits-20261125T131708.613208100Z.parquet`.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    gap_list::GapList,
    table_file::{Parquet, io_error},
};
use crate::{
    convert::{
        sink::{Gap, RecordingEnd},
        table::{Cell, RowType, TIME_COLUMN, TIME_NS_COLUMN, TableWriter},
    },
    view::{ReportOrigin, UtcTime},
};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// The maximum number of days, each of which has an open file.
const MAX_DAYS: usize = 400;

/// The name of a partition without a value, which Hive, Spark and DuckDB read as null.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The value by which rows are divided into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKey {
    /// The day in UTC: `dt=2026-11-25`.
    Day,
    /// The name of the host: `host=web`.
    Host,
}

/// Parquet files in folders.
pub struct ParquetPartitions<F, W: Write + Send> {
    row_type: RowType,
    origin: ReportOrigin,
    keys: Vec<PartitionKey>,
    create_file: F,
    /// The file of each day. `None` is the only one without [`PartitionKey::Day`], and that of rows without a date.
    files: BTreeMap<Option<u64>, Parquet<W>>,
    gaps: GapList,
}

impl<F, W: Write + Send> fmt::Debug for ParquetPartitions<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetPartitions")
            .field("keys", &self.keys)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

impl<F, W> ParquetPartitions<F, W>
where
    F: FnMut(&Path) -> io::Result<W>,
    W: Write + Send,
{
    /// Writes rows of the host `origin` to files that `create_file` creates by their relative paths. There is a
    /// folder for each of `keys`, in their order.
    pub fn new(
        row_type: RowType,
        origin: ReportOrigin,
        keys: Vec<PartitionKey>,
        create_file: F,
    ) -> Self {
        Self {
            row_type,
            origin,
            keys,
            create_file,
            files: BTreeMap::new(),
            gaps: GapList::default(),
        }
    }

    /// Returns the day of a row, in days since 1970.
    fn day_of(&self, cells: &[Cell<'_>]) -> Option<u64> {
        match cells.get(TIME_COLUMN) {
            Some(Cell::Time(time)) if self.keys.contains(&PartitionKey::Day) => {
                Some(time.ns / DAY_NS)
            }
            _ => None,
        }
    }

    /// Starts the file of a day, whose first row is `cells`. The name of the file has the time of this row, so files
    /// of other recordings have other names.
    fn start_file(&mut self, day: Option<u64>, cells: &[Cell<'_>]) -> io::Result<()> {
        if self.files.len() >= MAX_DAYS {
            return Err(io::Error::other(format!(
                "the recording has more than {MAX_DAYS} days: select a part of it with --from and --until"
            )));
        }
        // Exits that began before midnight follow in the file of the last day. The files of earlier days get few rows
        // from now on, and their memory is needed for this one.
        let last_day = self.files.keys().next_back().copied();
        for (day, file) in &mut self.files {
            if Some(*day) != last_day {
                file.write_group().map_err(io_error)?;
            }
        }
        let mut path: PathBuf = self.keys.iter().map(|it| self.folder(*it, day)).collect();
        let kind = match self.row_type {
            RowType::Exits => "exits",
            RowType::Events => "events",
        };
        let first_time = match (cells.get(TIME_COLUMN), cells.get(TIME_NS_COLUMN)) {
            (Some(Cell::Time(time)), _) => time.to_string().replace(['-', ':'], ""),
            (_, Some(Cell::Number(time_ns))) => time_ns.to_string(),
            _ => String::new(),
        };
        path.push(format!("{kind}-{first_time}.parquet"));
        let out = (self.create_file)(&path)?;
        let file = Parquet::new(self.row_type, &self.origin, out)?;
        self.files.insert(day, file);
        Ok(())
    }

    fn folder(&self, key: PartitionKey, day: Option<u64>) -> String {
        let (name, value) = match key {
            PartitionKey::Day => {
                let date = |day| UtcTime { ns: day * DAY_NS }.to_string();
                let date = day.map(|it| date(it).split('T').next().unwrap_or_default().to_owned());
                ("dt", date)
            }
            PartitionKey::Host => ("host", self.origin.header.host.as_deref().map(escape)),
        };
        format!("{name}={}", value.as_deref().unwrap_or(NO_VALUE))
    }
}

/// Escapes a value for a path as Hive does.
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                escaped.push(byte.into());
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

impl<F, W> TableWriter for ParquetPartitions<F, W>
where
    F: FnMut(&Path) -> io::Result<W>,
    W: Write + Send,
{
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        let day = self.day_of(cells);
        if !self.files.contains_key(&day) {
            self.start_file(day, cells)?;
        }
        match self.files.get_mut(&day) {
            Some(file) => file.row(cells),
            None => Ok(()),
        }
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.gaps.add(gap);
        Ok(())
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        for file in self.files.values_mut() {
            file.set_gaps(self.gaps.clone());
            file.finish(end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::SelectedBy;

    #[test]
    fn folders_are_safe_names() {
        let mut origin = ReportOrigin::new(SelectedBy::default());
        origin.header.host = Some("../a b/ü".to_owned());
        let keys = vec![PartitionKey::Day, PartitionKey::Host];
        let create = |_: &Path| Ok(Vec::new());
        let mut files = ParquetPartitions::new(RowType::Exits, origin, keys, create);
        assert_eq!(
            files.folder(PartitionKey::Host, None),
            "host=..%2Fa%20b%2F%C3%BC"
        );
        assert_eq!(
            files.folder(PartitionKey::Day, Some(19_675)),
            "dt=2023-11-14"
        );
        files.origin.header.host = None;
        for (key, name) in [(PartitionKey::Host, "host"), (PartitionKey::Day, "dt")] {
            let expected = format!("{name}=__HIVE_DEFAULT_PARTITION__");
            assert_eq!(files.folder(key, None), expected);
        }
    }
}
