//! Checks what this host supports, for `kvm-collector doctor`.
//!
//! [`Facts::read`] reads facts about the host. [`probe::run`] runs the built-in guest and counts the KVM
//! events that fire. [`diagnose()`] turns both into checks with advice, and reads nothing itself.

mod diagnose;
mod diagnosis;
mod facts;
pub mod probe;
mod text;

pub use diagnose::diagnose;
pub use diagnosis::{Check, Diagnosis, Status};
pub use facts::Facts;
pub use probe::{EventCounts, ProbeError};
pub use text::write_text;
