//! The `trace` view: writes events or complete exits one by one.

mod columns;
mod exit_buffer;
mod exit_lines;
mod fields_json;
mod filter;
mod item_names;
mod lines;

pub use exit_lines::{ExitLineOptions, ExitLines, ShorterExits};
pub use fields_json::write_fields_json;
pub use filter::{FilterError, Filters};
pub use item_names::ItemNames;
pub use lines::{TraceClock, TraceFormat, TraceLines};
