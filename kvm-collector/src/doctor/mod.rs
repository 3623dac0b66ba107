//! Checks what this host supports, for `kvm-collector doctor`.
//!
//! [`Facts::read`] reads facts about the host. [`test_guest::run`] runs the built-in guest and counts the KVM
//! events that fire. [`try_command`] does what a command would do. [`diagnose()`] turns their results into checks with
//! advice, and reads nothing itself.

mod commands;
mod diagnose;
mod diagnosis;
mod facts;
mod kernel_checks;
mod kvm_checks;
mod process_checks;
pub mod test_guest;
mod text;

pub use commands::{MeasuringCommand, RequestWith, command_without_tracefs, try_command};
pub use diagnose::diagnose;
pub use diagnosis::{Check, CommandCheck, Diagnosis, FailedOption, Refusal, Status};
pub use facts::Facts;
pub use test_guest::{EventCounts, TestGuestError};
pub use text::write_text;
