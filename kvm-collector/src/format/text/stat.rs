//! The `stat` report as text: a table of events, and one per VM.

use std::io::{self, Write};

use super::{
    loss::write_loss,
    style::TextStyle,
    table::TextTable,
    wrap::{write_sentence, write_title},
};
use crate::{
    format::{
        row_names::{as_text, vm_name},
        units::{count, plural, rate},
    },
    view::{StatEvent, StatReport},
};

/// Writes a `stat` report.
///
/// # Errors
/// When writing fails.
pub fn write_stat(report: &StatReport, style: TextStyle, out: &mut impl Write) -> io::Result<()> {
    let is_shown = |event: &&StatEvent| style.show_zeros || event.count > 0;
    write_events(report.events.iter().filter(is_shown), style, out)?;
    let zeros = report
        .events
        .iter()
        .filter(|event| event.count == 0)
        .count();
    if zeros > 0 && !style.show_zeros {
        let text = format!(
            "{zeros} of {} did not occur (--zeros shows {})",
            plural(report.events.len() as u64, "event"),
            if zeros == 1 { "it" } else { "them" }
        );
        write_sentence(&text, style, out)?;
    }
    for vm in report.vms.iter().flatten() {
        let host = vm
            .host
            .as_ref()
            .map(|host| format!("{}: ", as_text(host.label())));
        let name = vm_name(&vm.vm, vm.pid, as_text);
        let title = format!("{}{name}", host.unwrap_or_default());
        writeln!(out)?;
        write_title(&title, style, out)?;
        write_events(vm.events.iter(), style, out)?;
    }
    writeln!(out)?;
    write_loss(&report.loss, (0, "event"), style, out)
}

fn write_events<'a>(
    events: impl Iterator<Item = &'a StatEvent>,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut events = events.peekable();
    if events.peek().is_none() {
        return Ok(());
    }
    let mut table = TextTable::new(&["count", "rate/s", "event"], 2..3);
    for event in events {
        table.add_row([
            count(event.count),
            rate(event.rate_per_s),
            event.event.clone(),
        ]);
    }
    if let Some(max_width) = style.max_width {
        table.fit_width(&[0, 1, 0], max_width);
    }
    table.write(style, out)
}
