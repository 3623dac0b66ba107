//! What a recorder is asked to do, and what it reports.

use std::path::PathBuf;

/// How to record.
#[derive(Debug, Clone, Default)]
pub struct RecorderOptions {
    /// The output file. `None` is standard output.
    pub path: Option<PathBuf>,
    /// The zstd compression level. `None` does not compress.
    pub zstd_level: Option<i32>,
    /// The maximum size of a file in bytes.
    pub max_file_bytes: Option<u64>,
    /// Start a new file when one is full, and retain this many. `None` stops recording when the file
    /// is full.
    pub max_files: Option<usize>,
    /// Hold the latest events in memory, and write them to a file only on request.
    pub flight_recorder: Option<FlightRecorderOptions>,
}

/// Limits of the flight recorder. It discards the oldest events when either limit is exceeded.
#[derive(Debug, Clone)]
pub struct FlightRecorderOptions {
    /// The period of time to hold, in ns.
    pub window_ns: u64,
    /// The maximum size of the held records, in bytes.
    pub memory_bytes: u64,
}

/// The result of recording a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOutcome {
    /// The batch is stored in memory or in the file.
    Stored,
    /// The file is full, and the options allow no other. The batch is not stored.
    FileFull,
    /// The flight recorder has written a file.
    DumpWritten,
}

/// Numbers about all files of a recorder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingStats {
    /// Number of events in the files.
    pub events: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Number of files written.
    pub files: u64,
    /// Number of events that are lost because they do not fit into a perf record, or because the disk
    /// is full.
    pub omitted_events: u64,
}
