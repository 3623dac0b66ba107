//! The only module that names aya: host facts -> [`Request`] -> plan -> loaded and attached programs,
//! and reading what they wrote.

mod attach;
mod barrier;
mod bind;
mod counted;
mod entries;
mod error;
#[cfg(feature = "test-api")]
mod floor;
mod mapped;
mod misses;
mod notices;
mod plan;
mod programs;
mod release;
mod request;
mod ring;
mod runs;
mod sizes;
mod skip;
mod snapshot;
mod tables;
mod thread_table;
mod tracepoint;

pub use attach::{AttachedPrograms, ProgramReport};
pub use error::ProbeError;
#[cfg(feature = "test-api")]
pub use floor::EmptyPrograms;
pub use request::{PlanError, Request};
pub use ring::{BATCH_BYTES, RingLoss, Rings};
pub use runs::{ProgramRuns, RunStatistics, map_memory_bytes};
pub use sizes::{MAX_RING_BYTES, MapSizes};
pub use snapshot::CountedThreadEntry;
