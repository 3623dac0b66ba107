//! Recordings: perf.data in and out.
//!
//! [`Recorder`] writes what the ring gives, undecoded, as samples of perf.data. [`Reader`] gives the records of a file or a
//! stream, ours or perf's. Neither knows what an event means; `source::Recording` does.

mod abi;
mod buffer;
mod catalog;
mod compress;
mod encode;
mod error;
mod file;
mod head;
mod input;
pub(crate) mod kind;
mod reader;
mod recorder;
mod runs;
mod sample;
mod sections;
mod threads;
mod tracing_data;

pub use catalog::Catalog;
pub use error::ReadError;
pub use head::{HostFacts, RecordedEvent};
pub(crate) use input::records;
pub use reader::Reader;
pub use recorder::{Flight, Recorded, Recorder, RecorderOptions, Taken};
pub(crate) use runs::{Next, Runs};
pub(crate) use sample::Attr;
pub use tracing_data::KernelText;
