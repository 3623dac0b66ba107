//! Writes tables as Parquet files, which have typed and compressed columns. Holds the rows of a row group in
//! memory until the group is complete.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::{ColumnPath, Type},
};

use super::{
    sink::{Gap, RecordingEnd},
    table::{Cell, Column, ColumnType, RowType, TableWriter},
};
use crate::view::ReportOrigin;

/// The maximum number of rows in a row group.
const MAX_GROUP_ROWS: usize = 1 << 18;

/// The maximum size of the text in a row group, in bytes.
const MAX_GROUP_TEXT_BYTES: usize = 64 << 20;

/// The maximum number of gaps that are listed in the file.
const MAX_GAPS: usize = 1000;

/// A Parquet file.
#[derive(Debug)]
pub struct Parquet<W: Write + Send> {
    /// `None` after the file is finished.
    writer: Option<SerializedFileWriter<W>>,
    columns: Vec<ColumnBuffer>,
    rows: usize,
    text_bytes: usize,
    gaps: Vec<serde_json::Value>,
    omitted_gaps: u64,
}

/// The values of a column in the current row group.
#[derive(Debug)]
struct ColumnBuffer {
    is_nullable: bool,
    values: Values,
    /// For a nullable column: 1 for each row with a value, 0 for each row without.
    definition_levels: Vec<i16>,
}

#[derive(Debug)]
enum Values {
    U32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<ByteArray>),
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
            .set_compression(Compression::ZSTD(level));
        for name in ["time_ns", "time"] {
            // All values are different, so a dictionary would only cost time.
            let path = ColumnPath::new(vec![name.to_owned()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
        let properties = Arc::new(properties.build());
        let mut writer =
            SerializedFileWriter::new(out, Arc::new(schema), properties).map_err(io_error)?;
        let columns = row_type
            .columns()
            .map(|(_, column_type, is_nullable)| ColumnBuffer {
                is_nullable,
                values: match column_type {
                    ColumnType::U32 => Values::U32(Vec::new()),
                    ColumnType::U64
                    | ColumnType::I64
                    | ColumnType::Address
                    | ColumnType::WallTime => Values::I64(Vec::new()),
                    ColumnType::Bool => Values::Bool(Vec::new()),
                    ColumnType::Text | ColumnType::Json => Values::Text(Vec::new()),
                },
                definition_levels: Vec::new(),
            });
        let facts = [
            ("host", origin.host.as_deref()),
            ("boot_id", origin.boot_id.as_deref()),
            ("kernel", origin.kernel.as_deref()),
            ("tool_version", Some(origin.tool_version)),
        ];
        for (name, value) in facts {
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
            gaps: Vec::new(),
            omitted_gaps: 0,
        })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.rows > 0) else {
            return Ok(());
        };
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

impl ColumnBuffer {
    /// Appends a value. Returns the number of bytes of text that were added.
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        reason = "Parquet stores unsigned numbers with the same bits as signed ones"
    )]
    fn push(&mut self, cell: &Cell<'_>) -> usize {
        let mut bytes = 0;
        let has_value = *cell != Cell::Null || !self.is_nullable;
        if self.is_nullable {
            self.definition_levels.push(i16::from(has_value));
        }
        if !has_value {
            return 0;
        }
        let number = match cell {
            Cell::Number(number) => *number,
            Cell::Address(address) => address.0,
            Cell::Time(time) => time.ns,
            _ => 0,
        };
        match &mut self.values {
            Values::U32(values) => values.push(number as i32),
            Values::I64(values) => values.push(number as i64),
            Values::Bool(values) => values.push(*cell == Cell::Bool(true)),
            Values::Text(values) => {
                let text = match cell {
                    Cell::Text(text) => *text,
                    _ => "",
                };
                // If the text is the same as in the row before, share its memory.
                match values.last() {
                    Some(last) if last.data() == text.as_bytes() => values.push(last.clone()),
                    _ => {
                        bytes = text.len();
                        values.push(text.into());
                    }
                }
            }
        }
        bytes
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let levels = self.is_nullable.then_some(&self.definition_levels[..]);
        match &mut self.values {
            Values::U32(values) => {
                writer
                    .typed::<Int32Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::I64(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Bool(values) => {
                writer
                    .typed::<BoolType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, levels, None)?;
                values.clear();
            }
        }
        self.definition_levels.clear();
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
        if self.gaps.len() >= MAX_GAPS {
            self.omitted_gaps += 1;
            return Ok(());
        }
        let event = gap.event.map(ToString::to_string);
        self.gaps
            .push(serde_json::json!({ "lost": gap.lost, "event": event, "time_ns": gap.time_ns }));
        Ok(())
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        self.write_group().map_err(io_error)?;
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let gaps = serde_json::to_string(&self.gaps)?;
        for (key, value) in [
            ("kvm-collector.loss", serde_json::to_string(end.loss)?),
            ("kvm-collector.gaps", gaps),
            ("kvm-collector.gaps_left_out", self.omitted_gaps.to_string()),
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
        ColumnType::U64 | ColumnType::Address => {
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
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
