//! Loads and attaches the eBPF programs that a [`Request`] needs, and reads their maps and rings. Only this module uses
//! aya.

mod attach;
mod background_detach;
mod barrier;
mod bind;
mod counted_threads;
#[cfg(feature = "test-api")]
mod empty_programs;
mod error;
mod load;
mod mapped;
mod misses;
mod notifications;
mod plan;
mod request;
mod ring;
mod runs;
mod sizes;
mod skip;
mod snapshot;
mod tables;
mod thread_counter;
mod thread_table;
mod timing_programs;
mod tracepoint;
mod used_entries;

pub use attach::{AttachedPrograms, ProgramReport};
#[cfg(feature = "test-api")]
pub use empty_programs::EmptyPrograms;
pub use error::ProbeError;
pub use request::{PlanError, Request};
pub use ring::{BATCH_BYTES, RingLoss, Rings};
pub use runs::{ProgramRuns, RunStatistics, map_memory_bytes};
pub use sizes::{MAX_RING_BYTES, MapSizes};
pub use snapshot::CountedThreadEntry;
pub use thread_counter::ThreadCounter;
