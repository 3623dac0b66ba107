//! Reads and parses what comes from outside within limits: files, globs, lists and durations.
//!
//! Each error says the limit.

mod duration;
mod excerpt;
mod first;
mod glob;
mod list;
mod read;

pub use duration::{DurationError, MAX_DURATION, parse_duration};
pub use excerpt::{bound_message, excerpt};
pub use first::join_first;
pub use glob::{GlobError, Letters, compile_glob, compile_literal};
pub use list::{each_once, split_list};
pub use read::{LastLine, SYSTEM_FILE_BYTES, read_bounded, read_last_line, read_system_file};
