//! The lines about lost or incomplete data at the end of every report.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::{
    format::{describe_loss, units::plural},
    model::Loss,
};

/// Writes that nothing was lost, or a line per kind of loss that is not 0, and the number of exits in progress.
pub(super) fn write_loss(
    loss: &Loss,
    in_progress: u64,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if loss.is_empty() {
        writeln!(out, "{INDENT}complete: no events were lost")?;
    }
    if in_progress > 0 {
        let exits = plural(in_progress, "exit");
        writeln!(
            out,
            "{INDENT}{exits} in progress at the end: counted, without a duration"
        )?;
    }
    for entry in loss.entries() {
        match entry.count {
            None => {
                writeln!(
                    out,
                    "{INDENT}{}: not known, the kernel counts it since Linux 6.7",
                    entry.name
                )?;
            }
            Some(0) => {}
            Some(number) => {
                let text = format!("{INDENT}incomplete: {}", describe_loss(&entry, number));
                writeln!(out, "{}", style.warning(&text))?;
            }
        }
    }
    Ok(())
}
