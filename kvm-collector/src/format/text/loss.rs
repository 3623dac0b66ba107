//! The lines about lost or incomplete data at the end of every report.

use std::io::{self, Write};

use super::{
    style::TextStyle,
    wrap::{write_sentence, write_warning},
};
use crate::{
    format::{describe_loss, units::plural},
    model::Loss,
};

/// Writes that nothing was lost, or a line per kind of loss that is not 0, and the number of exits in progress, or of the events of
/// those exits.
pub(super) fn write_loss(
    loss: &Loss,
    (in_progress, unit): (u64, &str),
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if loss.is_empty() {
        write_sentence("complete: no events were lost", style, out)?;
    }
    if in_progress > 0 {
        let of_exits = if unit == "exit" { "" } else { " of exits" };
        let number = plural(in_progress, unit);
        let text =
            format!("{number}{of_exits} in progress at the end: counted, without a duration");
        write_sentence(&text, style, out)?;
    }
    for entry in loss.entries() {
        match entry.count {
            None => {
                let text = format!(
                    "{}: not known, the kernel counts it since Linux 6.7",
                    entry.name
                );
                write_sentence(&text, style, out)?;
            }
            Some(0) => {}
            Some(number) => {
                let text = format!("incomplete: {}", describe_loss(&entry, number));
                write_warning(&text, style, out)?;
            }
        }
    }
    Ok(())
}
