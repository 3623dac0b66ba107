//! The lines about lost or incomplete data at the end of every report.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::{format::units::count, model::Loss};

/// Writes the main loss counters, the number of exits in progress, and a line per kind of loss that
/// is not 0.
pub(super) fn write_loss(
    loss: &Loss,
    in_progress: u64,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{INDENT}lost {}, unmatched {}, map full {}{}",
        count(loss.lost),
        count(loss.unmatched),
        count(loss.map_full),
        if in_progress > 0 {
            format!(", in progress {}", count(in_progress))
        } else {
            String::new()
        },
    )?;
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
                let text = format!("{INDENT}incomplete: {} {}", count(number), entry.meaning);
                writeln!(out, "{}", style.warning(&text))?;
            }
        }
    }
    Ok(())
}
