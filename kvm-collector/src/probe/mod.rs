//! The only module that names aya: host facts -> [`Request`] -> plan -> loaded and attached programs,
//! and reading what they wrote.

mod attach;
mod batch;
mod bind;
mod floor;
mod misses;
mod pairing;
mod plan;
mod release;
mod ring;
mod snapshot;
mod tables;
mod tracepoint;

pub use attach::{Attached, ProbeError, ProgramReport};
pub use floor::Floor;
pub(crate) use pairing::PairingRules;
pub use pairing::{Detail, Pairing};
pub use plan::{Filter, MapSizes, PlanError, Request};
pub use ring::{Batch, Record, Ring};
pub use snapshot::ThreadCount;
