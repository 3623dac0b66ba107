//! The error type for reading recordings.

use std::{io, path::PathBuf};

/// How to get a recording.
pub(super) const RECORD_KVM: &str =
    "`kvm-collector record` and `perf record -a -e 'kvm:*'` record events of KVM";

/// Reasons why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is not in perf.data format.
    #[error("{} is not a perf.data file, but {found}: {remedy}", .path.display())]
    NotARecording {
        /// The path of the file.
        path: PathBuf,
        /// What the file is.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// The file is in perf.data format, but was recorded without what is needed.
    #[error("{} {problem}; {RECORD_KVM}", .path.display())]
    Unsuitable {
        /// The path of the file.
        path: PathBuf,
        /// What the file has, and what it does not have.
        problem: String,
    },
    /// The recording is from a machine with the other byte order.
    #[error("{} is from a {other}-endian machine, and cannot be read on this machine: use a {other}-endian one", .path.display(),
        other = if cfg!(target_endian = "little") { "big" } else { "little" })]
    Endian {
        /// The path of the file.
        path: PathBuf,
    },
    /// The metadata before the events is missing or malformed.
    #[error("{} is malformed: {problem}", .path.display())]
    Header {
        /// The path of the file.
        path: PathBuf,
        /// A description of the problem.
        problem: String,
    },
}
