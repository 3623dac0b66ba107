//! JSON reports, one object per line. docs/json.md documents the fields.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a report as one line of JSON.
///
/// # Errors
/// When writing fails.
pub fn write_line(report: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    out.write_all(b"\n")
}
