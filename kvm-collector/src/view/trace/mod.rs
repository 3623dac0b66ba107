//! `trace`: event by event.

mod filter;
mod lines;

pub use filter::{FilterError, Filters};
pub use lines::{TraceFormat, TraceLines};
