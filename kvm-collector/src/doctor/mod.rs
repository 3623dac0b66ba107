//! The doctor: what this host allows, what it does not, and what to do about it.
//!
//! [`Facts`] are read, [`examine`] judges them without looking at anything else, and [`probe`] is the one experiment:
//! whether the events really fire is only known by making exits and counting them.

mod check;
mod examine;
pub mod probe;
mod text;

pub use check::{Check, Diagnosis, Status};
pub use examine::{Facts, examine};
pub use probe::{Fired, ProbeError};
pub use text::write_text;
