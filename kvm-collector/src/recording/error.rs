//! Why a recording cannot be read.

use std::{io, path::PathBuf};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no perf.data file: {found}; `kvm-collector record` and `perf record` write them", .path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It is from a machine of the other byte order.
    #[error("{} is from a {other}-endian machine, and this is none: read it on a machine of its kind", .path.display(),
        other = if cfg!(target_endian = "little") { "big" } else { "little" })]
    Endian {
        /// The file.
        path: PathBuf,
    },
    /// What has to be there before the events is not, or makes no sense.
    #[error("{} cannot be understood: {problem}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
