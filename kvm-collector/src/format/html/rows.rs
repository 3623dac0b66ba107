//! The tables: exits, and events. The script sorts them by `data-v` and filters them by their text.

use std::io::{self, Write};

use super::{
    super::units::{count, duration, percent, rate},
    escape::Text,
};
use crate::view::{ExitRow, ExitsReport, StatReport};

/// More rows make a page that a phone cannot scroll; `exits --csv` has no such limit.
const MOST_ROWS: usize = 2000;

/// A table's columns: what the address of the page calls them, their heading, and whether they are numbers.
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

/// Begins a section with a table that can be sorted and filtered; `name` is that of the table.
fn begin(
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

fn end(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "</tbody>\n</table>\n</div>\n</section>")
}

/// A cell with a number, and what people read.
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
    write!(out, "<td>{}</td>", super::vm(name, pid))
}

pub(super) fn exits(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    let note = match report.rows.len() {
        more if more > MOST_ROWS => format!(
            "<p class=\"note\">The {} rows with the most time, of {}.</p>\n",
            count(MOST_ROWS as u64),
            count(more as u64)
        ),
        _ => String::new(),
    };
    begin("exits", "Exits", &note, EXITS, "time", out)?;
    for row in report.rows.iter().take(MOST_ROWS) {
        exit(row, report.preempt_watched, out)?;
    }
    end(out)
}

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
    ratio(row.busy_ratio, out)?;
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
            None => number(0, super::UNKNOWN, out)?,
            Some(0) => number(0, "<span class=\"zero\">0</span>", out)?,
            Some(ns) => number(ns, &duration(ns), out)?,
        }
    }
    writeln!(out, "</tr>")
}

pub(super) fn events(report: &StatReport, out: &mut impl Write) -> io::Result<()> {
    let mut rows: Vec<_> = report
        .vms
        .iter()
        .flat_map(|vm| vm.events.iter().map(move |event| (vm, event)))
        .collect();
    rows.sort_by_key(|(_, event)| std::cmp::Reverse(event.count));
    let all: Vec<_> = report.events.iter().filter(|it| it.count > 0).collect();
    let note = match (all.len() + rows.len()).checked_sub(MOST_ROWS) {
        Some(more) if more > 0 => format!(
            "<p class=\"note\">{} rows of single VMs are left out.</p>\n",
            count(more as u64)
        ),
        _ => String::new(),
    };
    begin("events", "Events", &note, EVENTS, "", out)?;
    for event in &all {
        write!(
            out,
            "<tr class=\"all\"><td>all</td><td>{}</td>",
            Text(&event.event)
        )?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr>")?;
    }
    for (of, event) in rows.iter().take(MOST_ROWS.saturating_sub(all.len())) {
        write!(out, "<tr>")?;
        vm(&of.vm, of.pid, out)?;
        write!(out, "<td>{}</td>", Text(&event.event))?;
        number(event.count, &count(event.count), out)?;
        rate_cell(event.rate_per_s, out)?;
        writeln!(out, "</tr>")?;
    }
    end(out)
}

fn rate_cell(per_s: f64, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<td class=\"n\" data-v=\"{per_s:.3}\">{}</td>",
        rate(per_s)
    )
}
