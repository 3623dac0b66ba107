//! Parquet files, which have typed and compressed columns: one file, or one per day and host.

mod column_buffer;
mod gap_list;
mod partitions;
mod table_file;

pub use partitions::{ParquetPartitions, PartitionError, PartitionKey};
pub use table_file::Parquet;
