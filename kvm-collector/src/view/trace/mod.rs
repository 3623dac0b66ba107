//! `trace`: event by event.

mod columns;
mod exit_lines;
mod filter;
mod lines;

pub use exit_lines::{ExitLineOptions, ExitLines};
pub use filter::{FilterError, Filters};
pub use lines::{Clock, TraceFormat, TraceLines, write_fields};
