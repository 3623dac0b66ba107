//! Writes a table as a Parquet file, which has typed and compressed columns. Holds the rows of a row group in
//! memory until the group is complete, and sorts them by time.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::WriterProperties,
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, Type},
};

use super::{column_buffer::ColumnBuffer, gap_list::GapList};
use crate::{
    convert::{
        sink::{Gap, RecordingEnd},
        table::{Cell, Column, ColumnType, RowType, TIME_NS_COLUMN, TableWriter},
    },
    view::ReportOrigin,
};

/// The maximum number of rows in a row group.
const MAX_GROUP_ROWS: usize = 1 << 18;

/// The maximum size of the text in a row group, in bytes.
const MAX_GROUP_TEXT_BYTES: usize = 64 << 20;

/// A Parquet file.
#[derive(Debug)]
pub struct Parquet<W: Write + Send> {
    /// `None` after the file is finished.
    writer: Option<SerializedFileWriter<W>>,
    columns: Vec<ColumnBuffer>,
    rows: usize,
    text_bytes: usize,
    gaps: GapList,
}

impl<W: Write + Send> Parquet<W> {
    /// Starts a file. Its metadata say that the rows are those of `origin`.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(row_type: RowType, origin: &ReportOrigin, out: W) -> io::Result<Self> {
        let fields = row_type.columns().map(|it| schema_field(&it).map(Arc::new));
        let schema = Type::group_type_builder("kvm_collector")
            .with_fields(fields.collect::<Result<_, _>>().map_err(io_error)?)
            .build()
            .map_err(io_error)?;
        let level = ZstdLevel::try_new(3).map_err(io_error)?;
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("kvm-collector ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_sorting_columns(Some(vec![SortingColumn {
                column_idx: 0, // time_ns
                descending: false,
                nulls_first: false,
            }]));
        for name in ["time_ns", "time"] {
            // All values are different, so a dictionary would only cost time.
            let path = ColumnPath::new(vec![name.to_owned()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
        let properties = Arc::new(properties.build());
        let mut writer =
            SerializedFileWriter::new(out, Arc::new(schema), properties).map_err(io_error)?;
        let columns = row_type.columns().map(|it| ColumnBuffer::new(&it));
        let facts = [
            ("host", origin.header.host.as_deref()),
            ("boot_id", origin.header.boot_id.as_deref()),
            ("kernel", origin.header.kernel.as_deref()),
            ("tool_version", Some(origin.header.tool_version)),
            (
                "vcpus_from_thread_names",
                origin.vcpus_from_thread_names.then_some("true"),
            ),
        ];
        for (name, value) in facts {
            // Unknown facts are left out, because Spark cannot read a key without a value.
            if let Some(value) = value {
                let key = format!("kvm-collector.{name}");
                writer.append_key_value_metadata(KeyValue::new(key, value.to_owned()));
            }
        }
        Ok(Self {
            writer: Some(writer),
            columns: columns.collect(),
            rows: 0,
            text_bytes: 0,
            gaps: GapList::default(),
        })
    }

    /// Sets the gaps of the recording.
    pub(super) fn set_gaps(&mut self, gaps: GapList) {
        self.gaps = gaps;
    }

    /// Writes the rows that are in memory as a row group.
    pub(super) fn write_group(&mut self) -> Result<(), ParquetError> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else {
            return Ok(());
        };
        let rows = self
            .columns
            .get(TIME_NS_COLUMN)
            .and_then(ColumnBuffer::sorted_rows);
        if let Some(rows) = rows {
            for column in &mut self.columns {
                column.reorder(&rows);
            }
        }
        let mut group = writer.next_row_group()?;
        for column in &mut self.columns {
            if let Some(mut writer) = group.next_column()? {
                column.write(&mut writer)?;
                writer.close()?;
            }
        }
        group.close()?;
        self.rows = 0;
        self.text_bytes = 0;
        Ok(())
    }
}

impl<W: Write + Send> TableWriter for Parquet<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.text_bytes += column.push(cell);
        }
        self.rows += 1;
        if self.rows >= MAX_GROUP_ROWS || self.text_bytes >= MAX_GROUP_TEXT_BYTES {
            self.write_group().map_err(io_error)?;
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.gaps.add(gap);
        Ok(())
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        self.write_group().map_err(io_error)?;
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        for (key, value) in [
            ("kvm-collector.loss", serde_json::to_string(end.loss)?),
            ("kvm-collector.gaps", self.gaps.to_json()?),
            (
                "kvm-collector.gaps_left_out",
                self.gaps.omitted().to_string(),
            ),
            (
                "kvm-collector.defect",
                end.defect.unwrap_or_default().into(),
            ),
        ] {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        writer.finish().map_err(io_error)?;
        writer.inner_mut().flush()
    }
}

fn schema_field(&(name, column_type, is_nullable): &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match column_type {
        ColumnType::U32 => (Physical::INT32, Some(LogicalType::integer(32, false))),
        ColumnType::U64 | ColumnType::Hex => {
            (Physical::INT64, Some(LogicalType::integer(64, false)))
        }
        ColumnType::I64 => (Physical::INT64, None),
        ColumnType::WallTime => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::NANOS)),
        ),
        ColumnType::Bool => (Physical::BOOLEAN, None),
        ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
    };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(match is_nullable {
            true => Repetition::OPTIONAL,
            false => Repetition::REQUIRED,
        })
        .build()
}

/// Unwraps the error of the file, which is the usual cause of an error of the writer.
pub(super) fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
