//! Reads and writes recordings in perf.data format.
//!
//! [`Recorder`] stores the records of the rings as perf samples, without decoding them. [`Reader`]
//! reads the records of a file or stream that this program or perf wrote. Neither interprets events;
//! `source::Recording` does that.

mod abi;
mod attr;
mod buffer;
mod chunks;
mod compress;
pub(crate) mod decode;
mod directory;
mod encode;
mod error;
mod event_names;
mod features;
mod file;
mod file_type;
mod header;
mod host_facts;
mod input;
mod metadata;
mod options;
mod reader;
mod record_writer;
mod recorder;
mod sections;
mod spool;
mod strings;
mod threads;
mod tracing_data;

pub(crate) use attr::EventAttr;
pub(crate) use chunks::{Chunks, NextChunk};
pub use directory::{can_be_read_again, is_directory_recording, is_empty_file};
pub use error::ReadError;
pub use host_facts::{HostFacts, KernelFormats, RecordedEvent};
pub(crate) use input::records;
pub use metadata::Metadata;
pub use options::{BatchOutcome, FlightRecorderOptions, RecorderOptions, RecordingStats};
pub use reader::Reader;
pub use recorder::Recorder;

/// Returns whether a file that starts with these bytes is a recording of a machine of either byte order.
#[must_use]
pub fn is_recording(start: &[u8]) -> bool {
    let magic = start.first_chunk().copied().map(u64::from_ne_bytes);
    magic.is_some_and(|it| it == abi::MAGIC || it == abi::MAGIC.swap_bytes())
}
