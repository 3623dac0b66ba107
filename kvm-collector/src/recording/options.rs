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
    /// Number of events that were written, including files that are removed by now. Events that are in
    /// several files of the flight recorder count once.
    pub events: u64,
    /// Size of the files in bytes.
    pub bytes: u64,
    /// Number of files written.
    pub files: u64,
    /// Number of files that exist; the others were removed to keep their number.
    pub kept_files: u64,
    /// Size of these files in bytes.
    pub kept_bytes: u64,
    /// Times of the first and the last event of the latest file of the flight recorder, in ns.
    pub last_dump_ns: Option<(u64, u64)>,
    /// Number of events that are lost because they do not fit into a perf record, or because the disk
    /// is full.
    pub omitted_events: u64,
}
