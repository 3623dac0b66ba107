//! The tables of exits and events. The script sorts them by `data-v` and filters them by their text.

use std::io::{self, Write};

use super::{
    cells::{self, UNKNOWN},
    escape::Text,
};
use crate::{
    format::units::{count, duration, percent, rate},
    view::{ExitRow, ExitsReport, StatReport},
};

/// Maximum number of rows. Phones cannot scroll a larger page; `exits --csv` has no such limit.
const MAX_ROWS: usize = 2000;

/// Columns of a table: the name for `#sort=` in the page's address, the heading, and whether the
/// cells are numbers.
type Columns<'a> = &'a [(&'a str, &'a str, bool)];

const EXITS: Columns<'_> = &[
    ("vm", "VM", false),
    ("vcpu", "vCPU", true),
    ("reason", "exit reason", false),
    ("count", "count", true),
    ("count-share", "count%", true),
    ("time", "time", true),
    ("time-share", "time%", true),
    ("busy-share", "busy%", true),
    ("kernel", "kernel", true),
    ("vmm", "VMM", true),
    ("halted", "halted", true),
    ("preempted", "preempted", true),
    ("min", "min", true),
    ("mean", "mean", true),
    ("max", "max", true),
    ("p50", "p50", true),
    ("p99", "p99", true),
];

const EVENTS: Columns<'_> = &[
    ("vm", "VM", false),
    ("event", "event", false),
    ("count", "count", true),
    ("rate", "per second", true),
];

/// Writes the start of a section with a sortable table. `name` is the id of the table, `sorted` the
/// column by which the rows are sorted.
fn begin_section(
    name: &str,
    title: &str,
    note: &str,
    columns: Columns<'_>,
    sorted: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(
        out,
        r#"<section aria-labelledby="h-{name}">
<h2 id="h-{name}">{title}</h2>
{note}<p class="script-only"><label>Filter <input type="search" data-filter="{name}" placeholder="part of a name" autocomplete="off"></label> <span id="{name}-shown" role="status"></span></p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="h-{name}">
<table id="{name}" class="sortable">
<thead><tr>"#
    )?;
    for (key, heading, is_number) in columns {
        let class = if *is_number { " class=\"n\"" } else { "" };
        let aria = match *key == sorted {
            true => " aria-sort=\"descending\"",
            false => "",
        };
        write!(
            out,
            "<th scope=\"col\" data-key=\"{key}\"{class}{aria}><button type=\"button\">{heading}</button></th>"
        )?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")
}

fn end_section(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "</tbody>\n</table>\n</div>\n</section>")
}

/// Writes a cell with a number, which the script sorts by, and its text.
fn number(value: u64, text: &str, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<td class=\"n\" data-v=\"{value}\">{text}</td>")
}

fn ratio(value: f64, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<td class=\"n\" data-v=\"{value:.6}\">{}</td>",
        percent(value)
    )
}

fn vm(name: &str, pid: u32, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<td>{}</td>", cells::vm(name, pid))
}

/// Writes the section with the table of exits.
pub(super) fn exits(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    let note = match report.rows.len() {
        rows if rows > MAX_ROWS => format!(
            "<p class=\"note\">The table shows the {} of {} rows with the most time.</p>\n",
            count(MAX_ROWS as u64),
            count(rows as u64)
        ),
        _ => String::new(),
    };
    begin_section("exits", "Exits", &note, EXITS, "time", out)?;
    for row in report.rows.iter().take(MAX_ROWS) {
        exit(row, report.preempt_watched, out)?;
    }
    end_section(out)
}

/// Writes a row of the table of exits.
fn exit(row: &ExitRow, preempt_watched: bool, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<tr>")?;
    vm(row.vm.as_deref().unwrap_or("?"), row.pid.unwrap_or(0), out)?;
    match (row.vcpu, row.tid) {
        (Some(vcpu), _) => number(vcpu.into(), &vcpu.to_string(), out)?,
        (None, Some(tid)) => number(tid.into(), &format!("thread {tid}"), out)?,
        (None, None) => write!(out, "<td class=\"n\" data-v=\"-1\">?</td>")?,
    }
    write!(
        out,
        "<td>{}</td>",
        Text(row.reason.as_deref().unwrap_or("?"))
    )?;
    number(row.count, &count(row.count), out)?;
    ratio(row.count_ratio, out)?;
    number(row.time_ns, &duration(row.time_ns), out)?;
    ratio(row.time_ratio, out)?;
    ratio(row.cost_ratio, out)?;
    for ns in [
        Some(row.kernel_ns),
        Some(row.vmm_ns),
        Some(row.halted_ns),
        preempt_watched.then_some(row.preempted_ns),
        Some(row.min_ns),
        Some(row.mean_ns),
        Some(row.max_ns),
        Some(row.p50_ns),
        Some(row.p99_ns),
    ] {
        match ns {
            None => number(0, UNKNOWN, out)?,
            Some(0) => number(0, "<span class=\"zero\">0</span>", out)?,
            Some(ns) => number(ns, &duration(ns), out)?,
        }
    }
    writeln!(out, "</tr>")
}

/// Writes the section with the table of events: totals first, then the events of each VM.
pub(super) fn events(report: &StatReport, out: &mut impl Write) -> io::Result<()> {
    let mut rows: Vec<_> = report
        .vms
        .iter()
        .flat_map(|vm| vm.events.iter().map(move |event| (vm, event)))
        .collect();
    rows.sort_by_key(|(_, event)| std::cmp::Reverse(event.count));
    let totals: Vec<_> = report.events.iter().filter(|it| it.count > 0).collect();
    let note = match (totals.len() + rows.len()).checked_sub(MAX_ROWS) {
        Some(omitted) if omitted > 0 => format!(
            "<p class=\"note\">{} rows of single VMs are omitted.</p>\n",
            count(omitted as u64)
        ),
        _ => String::new(),
    };
    begin_section("events", "Events", &note, EVENTS, "", out)?;
    for event in &totals {
        write!(
            out,
            "<tr class=\"all\"><td>all</td><td>{}</td>",
            Text(&event.event)
        )?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr>")?;
    }
    for (stat_vm, event) in rows.iter().take(MAX_ROWS.saturating_sub(totals.len())) {
        write!(out, "<tr>")?;
        vm(&stat_vm.vm, stat_vm.pid, out)?;
        write!(out, "<td>{}</td>", Text(&event.event))?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr>")?;
    }
    end_section(out)
}

fn rate_cell(per_s: f64, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<td class=\"n\" data-v=\"{per_s:.3}\">{}</td>",
        rate(per_s)
    )
}
