//! `trace`: event by event.

mod columns;
mod filter;
mod lines;
mod spans;

pub use filter::{FilterError, Filters};
pub use lines::{Clock, TraceFormat, TraceLines, write_fields};
pub use spans::{SpanOptions, Spans};
