//! Human-readable output of a diagnosis.

use std::io::{self, Write};

use super::Diagnosis;
use crate::outside_text::OutsideText;

/// Writes one line per check, followed by its advice, then the result.
///
/// # Errors
/// If writing fails.
pub fn write_text(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let widths = diagnosis.checks.iter().map(|check| check.name.len());
    let width = widths.max().unwrap_or(0);
    for check in &diagnosis.checks {
        writeln!(
            out,
            "{:<4}  {:<width$}  {}",
            check.status,
            check.name,
            OutsideText::new(&check.found)
        )?;
        if let Some(advice) = &check.advice {
            let advice = OutsideText::new(advice);
            writeln!(out, "      {:<width$}  -> {advice}", "")?;
        }
    }
    let works = if diagnosis.usable { "can" } else { "cannot" };
    writeln!(out, "\nkvm-collector {works} work here.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::diagnosis::{Check, Status};

    #[test]
    fn findings_are_one_line_each() {
        let check = Check {
            name: "kernel",
            status: Status::Warn,
            found: "6.12\n\x1b[2J".into(),
            advice: Some("run\rit".into()),
        };
        let mut out = Vec::new();
        write_text(&mut out, &Diagnosis::new(None, vec![check])).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "warn  kernel  6.12\\n\\x1b[2J\n              -> run\\rit\n\nkvm-collector can work here.\n"
        );
    }
}
