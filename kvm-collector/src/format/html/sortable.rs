//! Sections with a table that the script sorts and filters: by `data-v`, or by text where there is none.
//!
//! Each row has a `<tbody>` of its own, which may contain further lines about the row.

use std::io::{self, Write};

use super::{cells, escape::Text};
use crate::format::units::{duration, percent, rough_duration};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// The name for `#sort=` in the page's address.
    pub(super) key: &'static str,
    pub(super) heading: &'static str,
    /// Whether the cells are numbers.
    pub(super) is_number: bool,
    /// An explanation that the browser shows when the pointer is over the heading; may be empty.
    pub(super) help: &'static str,
}

/// Returns a column of names.
pub(super) const fn names(key: &'static str, heading: &'static str) -> Column {
    Column {
        key,
        heading,
        is_number: false,
        help: "",
    }
}

/// Returns a column of numbers.
pub(super) const fn numbers(
    key: &'static str,
    heading: &'static str,
    help: &'static str,
) -> Column {
    Column {
        key,
        heading,
        is_number: true,
        help,
    }
}

/// Writes the start of a section with a table.
///
/// `name` is the id of the table. `notes` is HTML between the heading and the table. `sorted` is the
/// column by which the rows are sorted in descending order.
pub(super) fn begin_section(
    (name, title): (&str, &str),
    notes: &str,
    columns: &[Column],
    sorted: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(
        out,
        r#"<section aria-labelledby="h-{name}">
<h2 id="h-{name}">{title}</h2>
{notes}<p class="script-only"><label>Filter <input type="search" data-filter="{name}" placeholder="part of a name" autocomplete="off"></label> <span id="{name}-shown" role="status"></span></p>
<div class="scroll" tabindex="0" role="region" aria-labelledby="h-{name}">
<table id="{name}" class="sortable">
<thead><tr>"#
    )?;
    for column in columns {
        let Column { key, heading, .. } = column;
        let class = match column.is_number {
            true => " class=\"n\"",
            false => "",
        };
        let aria = match *key == sorted {
            true => " aria-sort=\"descending\"",
            false => "",
        };
        let help = match column.help {
            "" => String::new(),
            help => format!(" title=\"{}\"", Text(help)),
        };
        write!(
            out,
            "<th scope=\"col\" data-key=\"{key}\"{class}{help}{aria}><button type=\"button\">{heading}</button></th>"
        )?;
    }
    writeln!(out, "</tr></thead>")
}

/// Writes the end of the section.
pub(super) fn end_section(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "</table>\n</div>\n</section>")
}

/// Writes a cell with a number, which the script sorts by, and its HTML.
pub(super) fn number(value: u64, html: &str, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<td class=\"n\" data-v=\"{value}\">{html}</td>")
}

/// Writes a cell with a share.
pub(super) fn ratio(value: f64, out: &mut impl Write) -> io::Result<()> {
    let text = percent(value);
    write!(out, "<td class=\"n\" data-v=\"{value:.6}\">{text}</td>")
}

/// Writes the cell of a VM.
pub(super) fn vm(name: &str, pid: u32, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<td>{}</td>", cells::vm(name, pid))
}

/// Writes the cell of a vCPU: its index, or its thread.
pub(super) fn vcpu(vcpu: Option<u32>, tid: Option<u32>, out: &mut impl Write) -> io::Result<()> {
    match (vcpu, tid) {
        (Some(vcpu), _) => number(vcpu.into(), &vcpu.to_string(), out),
        (None, Some(tid)) => number(tid.into(), &format!("thread {tid}"), out),
        (None, None) => write!(out, "<td class=\"n\" data-v=\"-1\">?</td>"),
    }
}

/// Writes the cell of a duration.
pub(super) fn time(ns: u64, out: &mut impl Write) -> io::Result<()> {
    match ns {
        0 => number(0, "<span class=\"zero\">0</span>", out),
        ns => number(ns, &duration(ns), out),
    }
}

/// Writes the cell of a percentile, which is accurate to 5 %.
pub(super) fn percentile(ns: u64, out: &mut impl Write) -> io::Result<()> {
    number(ns, &rough_duration(ns), out)
}
