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
    outside_text::OutsideText,
    view::{ReportOrigin, UtcTime},
};

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// The maximum number of days, each of which has an open file.
const MAX_DAYS: usize = 400;

/// The name of a partition without a value, which Hive, Spark and DuckDB read as null.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The maximum length of a name on Linux file systems.
const MAX_NAME_BYTES: usize = 255;

/// Reasons why the host of a recording cannot be the name of a folder.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The file system has no such long names.
    #[error(
        "the name of its host, {name}, is too long for a folder: the folder's name would have {bytes} bytes and can have {MAX_NAME_BYTES}"
    )]
    TooLong {
        /// The start of the name.
        name: String,
        /// The length of the folder's name.
        bytes: usize,
    },
    /// Others would read the name as null. Some of them also do so if it is escaped, such as Arrow.
    #[error("its host is named {NO_VALUE}, which means no name in a folder")]
    MeansNoValue,
}

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
    /// The name of the folder for [`PartitionKey::Host`].
    host_folder: String,
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
    ///
    /// # Errors
    /// If one of `keys` is the host, and the host's name cannot be that of a folder.
    pub fn new(
        row_type: RowType,
        origin: ReportOrigin,
        keys: Vec<PartitionKey>,
        create_file: F,
    ) -> Result<Self, PartitionError> {
        let host_folder = match keys.contains(&PartitionKey::Host) {
            true => host_folder(origin.header.host.as_deref())?,
            false => String::new(),
        };
        Ok(Self {
            row_type,
            origin,
            keys,
            host_folder,
            create_file,
            files: BTreeMap::new(),
            gaps: GapList::default(),
        })
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
        match (key, day) {
            (PartitionKey::Day, Some(day)) => {
                let time = UtcTime { ns: day * DAY_NS }.to_string();
                format!("dt={}", time.split('T').next().unwrap_or_default())
            }
            (PartitionKey::Day, None) => format!("dt={NO_VALUE}"),
            (PartitionKey::Host, _) => self.host_folder.clone(),
        }
    }
}

/// Returns the name of the folder for a host. Spark cannot read an empty name, so a host with an empty name has none.
fn host_folder(host: Option<&str>) -> Result<String, PartitionError> {
    let name = match host.filter(|it| !it.is_empty()) {
        Some(NO_VALUE) => return Err(PartitionError::MeansNoValue),
        Some(name) => escape(name),
        None => NO_VALUE.to_owned(),
    };
    let folder = format!("host={name}");
    if folder.len() > MAX_NAME_BYTES {
        let name = OutsideText::new(host.unwrap_or_default()).as_name();
        return Err(PartitionError::TooLong {
            name: name.into_owned(),
            bytes: folder.len(),
        });
    }
    Ok(folder)
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
        let origin = ReportOrigin::new(SelectedBy::default());
        let keys = vec![PartitionKey::Day, PartitionKey::Host];
        let create = |_: &Path| Ok(Vec::new());
        let files = ParquetPartitions::new(RowType::Exits, origin, keys, create).unwrap();
        let day = |day| files.folder(PartitionKey::Day, day);
        assert_eq!(day(Some(19_675)), "dt=2023-11-14");
        assert_eq!(day(None), "dt=__HIVE_DEFAULT_PARTITION__");
        let longest = "a".repeat(250);
        for (host, expected) in [
            (None, "__HIVE_DEFAULT_PARTITION__"),
            (Some(""), "__HIVE_DEFAULT_PARTITION__"),
            (Some("../a b/ü"), "..%2Fa%20b%2F%C3%BC"),
            (Some(".."), ".."),
            (Some("a=b%2F\0\n\x1b["), "a%3Db%252F%00%0A%1B%5B"),
            (
                Some("__hive_default_partition__"),
                "__hive_default_partition__",
            ),
            (Some(&*longest), &*longest),
        ] {
            assert_eq!(host_folder(host), Ok(format!("host={expected}")));
        }
    }

    #[test]
    fn names_that_others_would_misread_are_errors() {
        let error = host_folder(Some(NO_VALUE)).unwrap_err();
        assert_eq!(error, PartitionError::MeansNoValue);
        // Each of these characters is escaped as nine.
        for (name, bytes) in [("a".repeat(251), 256), ("\u{202e}".repeat(28), 257)] {
            let error = host_folder(Some(&name)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("would have {bytes} bytes")),
                "{error}"
            );
            assert!(error.len() < 300 && !error.contains('\u{202e}'), "{error}");
        }
    }
}
