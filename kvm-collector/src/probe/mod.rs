//! The only module that names aya: host facts -> [`Request`] -> plan -> loaded and attached programs,
//! and reading what they wrote.

mod attach;
mod batch;
mod bind;
mod floor;
mod mapped;
mod misses;
mod pairing;
mod plan;
mod records;
mod release;
mod rings;
mod runs;
mod skip;
mod snapshot;
mod tables;
mod tracepoint;

pub use attach::{Attached, ProbeError, ProgramReport};
pub use floor::Floor;
pub(crate) use pairing::PairingRules;
pub use pairing::{Detail, Pairing};
pub use plan::{Filter, MOST_RING_BYTES, MapSizes, PlanError, Request};
pub use records::{Batch, Record};
pub use rings::{RingLoss, Rings};
pub use runs::{ProgramRuns, RunStatistics, map_bytes};
pub use snapshot::ThreadCount;
