//! Writes to stderr.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Writes a text to stderr. Unlike `eprint!`, it does not panic if stderr is closed or full: nobody could be told.
pub fn write_stderr(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}
