//! What the running kernel says about its trace events.

pub mod field;
pub mod format;
mod print_fmt;
