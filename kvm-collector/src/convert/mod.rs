//! Converts recordings for other tools.
//!
//! There is one module per target format. A target receives events or exits one by one and in order of
//! time, so its memory use does not grow with the recording.

mod convert_recording;
mod csv;
mod error;
mod parquet;
mod perfetto;
mod row_sink;
mod sink;
mod table;
mod text;

pub use convert_recording::{ConvertOptions, ConvertSummary, convert_recording};
pub use csv::Csv;
pub use error::ConvertError;
pub use parquet::{Parquet, ParquetPartitions, PartitionError, PartitionKey};
pub use perfetto::Perfetto;
pub use row_sink::RowSink;
pub use sink::{Gap, RecordingEnd, Sink};
pub use table::{Cell, Column, ColumnType, RowType, TableWriter};
pub use text::Text;
