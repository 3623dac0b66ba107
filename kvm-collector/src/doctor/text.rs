//! A diagnosis for people.

use std::io::{self, Write};

use super::Diagnosis;

/// Writes a line per check, its advice below it.
///
/// # Errors
/// Those of the writer.
pub fn write_text(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let widths = diagnosis.checks.iter().map(|check| check.name.len());
    let width = widths.max().unwrap_or(0);
    for check in &diagnosis.checks {
        writeln!(
            out,
            "{:<4}  {:<width$}  {}",
            check.status, check.name, check.found
        )?;
        if let Some(advice) = &check.advice {
            writeln!(out, "      {:<width$}  -> {advice}", "")?;
        }
    }
    let works = if diagnosis.works() { "can" } else { "cannot" };
    writeln!(out, "\nkvm-collector {works} work here.")
}
