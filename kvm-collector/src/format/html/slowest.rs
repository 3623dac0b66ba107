//! The table of the slowest exits.

use std::io::{self, Write};

use super::{
    cells::UNKNOWN,
    escape::Text,
    exits_table::PREEMPTED,
    sortable::{self, Column, names, number, numbers},
    wall_time,
};
use crate::{
    format::{
        row_names::with_name,
        units::{duration, plural},
    },
    view::{Overview, RecordedExits, SlowExitRow},
};

const COLUMNS: &[Column] = &[
    numbers("start", "start", "start of the exit"),
    names("vm", "VM"),
    numbers("vcpu", "vCPU", ""),
    names("reason", "exit reason"),
    names("cause", "cause"),
    numbers("time", "time", "from exit to next entry"),
    numbers("awake", "not halted", "time without halted time"),
    numbers(
        "kernel",
        "kernel",
        "time in the kernel, on behalf of the guest",
    ),
    numbers("vmm", "VMM", "time in the VMM's user space"),
    numbers("halted", "halted", "time halted in the kernel"),
    numbers(PREEMPTED, "preempted", "time runnable, but not running"),
    numbers(
        "rip",
        "guest address",
        "instruction pointer of the guest at the exit",
    ),
];

/// Writes the section; nothing if no exit has a duration.
pub(super) fn section(
    overview: &Overview,
    exits: &RecordedExits,
    out: &mut impl Write,
) -> io::Result<()> {
    if exits.slowest.is_empty() {
        return Ok(());
    }
    let preempt_watched = exits.rows.preempt_watched;
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|it| preempt_watched || it.key != PREEMPTED)
        .copied()
        .collect();
    let start = match overview.facts.wall_offset_ns {
        Some(_) => "The start of an exit is in UTC.",
        None => {
            "The start of an exit is the time from the first event, because the recording has no date."
        }
    };
    let note = format!(
        "<p class=\"note\">The {} with the most time that is not halted, by which <code>exits --slow</code> decides too. {start}</p>\n",
        plural(exits.slowest.len() as u64, "exit")
    );
    sortable::begin_section(("slowest", "Slowest exits"), &note, &columns, "awake", out)?;
    for row in &exits.slowest {
        exit(row, overview, preempt_watched, out)?;
    }
    sortable::end_section(out)
}

fn exit(
    row: &SlowExitRow,
    overview: &Overview,
    preempt_watched: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(out, "<tbody><tr>")?;
    let timeline_start_ns = overview.timeline.start_ns.unwrap_or(row.time_ns);
    let since_start_ns = row.time_ns.saturating_sub(timeline_start_ns);
    let first_ns = overview.facts.wall_ns(timeline_start_ns);
    let start = match overview.facts.wall_ns(row.time_ns).zip(first_ns) {
        Some((ns, first_ns)) if wall_time::is_same_day(ns, first_ns) => {
            wall_time::time_of_day(ns, 6)
        }
        Some((ns, _)) => wall_time::date_and_time(ns, 6),
        None => duration(since_start_ns),
    };
    number(since_start_ns, &start, out)?;
    sortable::vm(&row.vm, row.pid, out)?;
    sortable::vcpu(row.vcpu, Some(row.tid), out)?;
    let label = with_name(row.label(), row.key_name.as_deref());
    write!(out, "<td>{}</td>", Text(label))?;
    match &row.cause {
        Some(cause) => {
            let cause = with_name(cause, row.cause_name.as_deref());
            write!(out, "<td>{}</td>", Text(cause))?;
        }
        None => write!(out, "<td></td>")?,
    }
    sortable::time(row.duration_ns, out)?;
    sortable::time(row.duration_ns.saturating_sub(row.halted_ns), out)?;
    for ns in [row.kernel_ns, row.vmm_ns, row.halted_ns] {
        sortable::time(ns, out)?;
    }
    if preempt_watched {
        sortable::time(row.preempted_ns.unwrap_or_default(), out)?;
    }
    match row.guest_rip.0 {
        0 => number(0, UNKNOWN, out)?,
        rip => number(rip, &format!("{rip:#x}"), out)?,
    }
    writeln!(out, "</tr></tbody>")
}
