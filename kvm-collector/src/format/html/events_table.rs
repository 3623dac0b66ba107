//! The table of events: their number and rate, in total and per VM.

use std::io::{self, Write};

use super::{
    escape::Text,
    sortable::{self, Column, names, number, numbers},
};
use crate::{
    format::units::{count, plural, rate},
    view::StatReport,
};

/// Maximum number of rows. Phones cannot scroll a larger page; `stat --per-vm` has no such limit.
const MAX_ROWS: usize = 2000;

const COLUMNS: &[Column] = &[
    names("vm", "VM"),
    names("event", "event"),
    numbers("count", "count", ""),
    numbers("rate", "per second", ""),
];

/// Writes the section with the table of events: totals first, then the events of each VM.
pub(super) fn section(report: &StatReport, out: &mut impl Write) -> io::Result<()> {
    let mut rows: Vec<_> = report
        .vms
        .iter()
        .flatten()
        .flat_map(|vm| vm.events.iter().map(move |event| (vm, event)))
        .collect();
    rows.sort_by_key(|(_, event)| std::cmp::Reverse(event.count));
    let totals: Vec<_> = report.events.iter().filter(|it| it.count > 0).collect();
    let note = match (totals.len() + rows.len()).checked_sub(MAX_ROWS) {
        Some(omitted) if omitted > 0 => format!(
            "<p class=\"note\">{} of single VMs {} omitted.</p>\n",
            plural(omitted as u64, "row"),
            if omitted == 1 { "is" } else { "are" }
        ),
        _ => String::new(),
    };
    sortable::begin_section(("events", "Events"), &note, COLUMNS, "", out)?;
    for event in &totals {
        write!(
            out,
            "<tbody><tr class=\"all\"><td>all</td><td>{}</td>",
            Text(&event.event)
        )?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr></tbody>")?;
    }
    for (stat_vm, event) in rows.iter().take(MAX_ROWS.saturating_sub(totals.len())) {
        write!(out, "<tbody><tr>")?;
        sortable::vm(&stat_vm.vm, stat_vm.pid, out)?;
        write!(out, "<td>{}</td>", Text(&event.event))?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr></tbody>")?;
    }
    sortable::end_section(out)
}

fn rate_cell(per_s: f64, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<td class=\"n\" data-v=\"{per_s:.3}\">{}</td>",
        rate(per_s)
    )
}
