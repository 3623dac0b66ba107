//! JSON: one object per report, on one line; see docs/json.md.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a report as one line.
///
/// # Errors
/// When writing fails.
pub fn line(report: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    out.write_all(b"\n")
}
