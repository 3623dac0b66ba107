//! Recordings: perf.data in and out.
//!
//! [`Recorder`] writes what the ring gives, undecoded, as samples of perf.data. [`Reader`] gives the records of a file or a
//! stream, ours or perf's. Neither knows what an event means; `source::Recording` does.

mod abi;
mod catalog;
mod compress;
mod encode;
mod file;
mod head;
mod input;
pub(crate) mod kind;
mod reader;
mod recorder;
mod sample;
mod threads;
mod tracing_data;
mod trigger;

pub use catalog::Catalog;
pub use head::{HostFacts, RecordedEvent};
pub(crate) use input::records;
pub use reader::{Next, ReadError, Reader};
pub use recorder::{Flight, Recorded, Recorder, RecorderOptions, Taken};
pub(crate) use sample::Attr;
pub use tracing_data::KernelText;
pub use trigger::Trigger;
