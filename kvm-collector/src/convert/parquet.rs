//! Parquet: typed columns, compressed. Rows are collected until there are enough for a group.

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
    Cell, Columns, End, Gap,
    rows::{Column, Kind, Table},
};

/// A group's rows at most.
const MOST_ROWS: usize = 1 << 18;

/// And the bytes of its text.
const MOST_BYTES: usize = 64 << 20;

/// Gaps that are listed; there may be any number.
const MOST_GAPS: usize = 1000;

/// Writes a file.
#[derive(Debug)]
pub struct Parquet<W: Write + Send> {
    /// Until it is finished.
    writer: Option<SerializedFileWriter<W>>,
    columns: Vec<Collected>,
    rows: usize,
    bytes: usize,
    gaps: Vec<serde_json::Value>,
    gaps_left_out: u64,
}

/// A column of the group that is not written yet.
#[derive(Debug)]
struct Collected {
    optional: bool,
    values: Values,
    /// Of an optional column: 1 where there is a value, 0 where there is none.
    there: Vec<i16>,
}

#[derive(Debug)]
enum Values {
    Small(Vec<i32>),
    Large(Vec<i64>),
    Flag(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl<W: Write + Send> Parquet<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(columns: Columns, out: W) -> io::Result<Self> {
        let fields = columns.all().map(|it| field(&it).map(Arc::new));
        let schema = Type::group_type_builder("kvm_collector")
            .with_fields(fields.collect::<Result<_, _>>().map_err(failed)?)
            .build()
            .map_err(failed)?;
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("kvm-collector ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level));
        for name in ["time_ns", "time"] {
            // No two are the same: a dictionary would be made, and given up.
            let path = ColumnPath::new(vec![name.to_owned()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
        let properties = Arc::new(properties.build());
        let writer =
            SerializedFileWriter::new(out, Arc::new(schema), properties).map_err(failed)?;
        let collected = columns.all().map(|(_, kind, optional)| Collected {
            optional,
            values: match kind {
                Kind::Small => Values::Small(Vec::new()),
                Kind::Large | Kind::Signed | Kind::WallTime => Values::Large(Vec::new()),
                Kind::Flag => Values::Flag(Vec::new()),
                Kind::Text | Kind::Json => Values::Text(Vec::new()),
            },
            there: Vec::new(),
        });
        Ok(Self {
            writer: Some(writer),
            columns: collected.collect(),
            rows: 0,
            bytes: 0,
            gaps: Vec::new(),
            gaps_left_out: 0,
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
        self.bytes = 0;
        Ok(())
    }
}

impl Collected {
    /// Returns how many bytes of text were added.
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        reason = "Parquet's numbers without a sign are the same bits"
    )]
    fn push(&mut self, cell: &Cell<'_>) -> usize {
        let mut bytes = 0;
        let is_there = *cell != Cell::None || !self.optional;
        if self.optional {
            self.there.push(i16::from(is_there));
        }
        if !is_there {
            return 0;
        }
        let number = match cell {
            Cell::Number(number) => *number,
            _ => 0,
        };
        match &mut self.values {
            Values::Small(values) => values.push(number as i32),
            Values::Large(values) => values.push(number as i64),
            Values::Flag(values) => values.push(*cell == Cell::Flag(true)),
            Values::Text(values) => {
                let text = match cell {
                    Cell::Text(text) => *text,
                    _ => "",
                };
                // What is the same as in the row before is shared.
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
        let there = self.optional.then_some(&self.there[..]);
        match &mut self.values {
            Values::Small(values) => {
                writer
                    .typed::<Int32Type>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
            Values::Large(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
            Values::Flag(values) => {
                writer
                    .typed::<BoolType>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
        }
        self.there.clear();
        Ok(())
    }
}

impl<W: Write + Send> Table for Parquet<W> {
    fn row(&mut self, cells: &[Cell<'_>]) -> io::Result<()> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.bytes += column.push(cell);
        }
        self.rows += 1;
        if self.rows >= MOST_ROWS || self.bytes >= MOST_BYTES {
            self.write_group().map_err(failed)?;
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        if self.gaps.len() >= MOST_GAPS {
            self.gaps_left_out += 1;
            return Ok(());
        }
        let event = gap.event.map(ToString::to_string);
        self.gaps
            .push(serde_json::json!({ "lost": gap.lost, "event": event, "time_ns": gap.time_ns }));
        Ok(())
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        self.write_group().map_err(failed)?;
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        let gaps = serde_json::to_string(&self.gaps)?;
        for (key, value) in [
            ("kvm-collector.loss", serde_json::to_string(end.loss)?),
            ("kvm-collector.gaps", gaps),
            (
                "kvm-collector.gaps_left_out",
                self.gaps_left_out.to_string(),
            ),
            (
                "kvm-collector.defect",
                end.defect.unwrap_or_default().into(),
            ),
        ] {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        writer.finish().map_err(failed)?;
        writer.inner_mut().flush()
    }
}

fn field(&(name, kind, optional): &Column) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Small => (Physical::INT32, Some(LogicalType::integer(32, false))),
        Kind::Large => (Physical::INT64, Some(LogicalType::integer(64, false))),
        Kind::Signed => (Physical::INT64, None),
        Kind::WallTime => (
            Physical::INT64,
            Some(LogicalType::timestamp(true, TimeUnit::NANOS)),
        ),
        Kind::Flag => (Physical::BOOLEAN, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Json => (Physical::BYTE_ARRAY, Some(LogicalType::Json)),
    };
    Type::primitive_type_builder(name, physical)
        .with_logical_type(logical)
        .with_repetition(match optional {
            true => Repetition::OPTIONAL,
            false => Repetition::REQUIRED,
        })
        .build()
}

/// An error of the writer is most often one of the file.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
