//! The table of exits by VM, vCPU and reason. Below each row are its most frequent causes, which are
//! hidden until the row or all rows are opened.

use std::io::{self, Write};

use super::{
    cells::UNKNOWN,
    escape::Text,
    sortable::{self, Column, names, number, numbers, ratio},
};
use crate::{
    format::{
        row_names::with_name,
        units::{count, duration},
    },
    view::{CauseRow, ExitRow, ExitsReport},
};

/// Maximum number of rows. Phones cannot scroll a larger page; `exits --csv` has no such limit.
const MAX_ROWS: usize = 2000;

/// Number of rows whose causes are shown when the page is opened, so that readers see that there are
/// causes.
const OPEN_ROWS: usize = 3;

const COLUMNS: &[Column] = &[
    names("vm", "VM"),
    numbers("vcpu", "vCPU", ""),
    names("reason", "exit reason"),
    numbers("count", "count", "number of exits"),
    numbers("count-share", "count%", "share of all exits"),
    numbers(
        "time",
        "time",
        "from exit to next entry, idle time included",
    ),
    numbers("time-share", "time%", "share of the time of all rows"),
    numbers(
        "cost-share",
        "cost%",
        "share of the cost of all rows; cost is the time outside the guest without idle time",
    ),
    numbers(
        "kernel",
        "kernel",
        "time in the kernel, on behalf of the guest",
    ),
    numbers("vmm", "VMM", "time in the VMM's user space"),
    numbers("halted", "halted", "time halted in the kernel"),
    numbers(PREEMPTED, "preempted", "time runnable, but not running"),
    numbers("min", "min", "shortest exit"),
    numbers("mean", "mean", "mean duration of an exit"),
    numbers("max", "max", "longest exit"),
    numbers("p50", "p50", "median, accurate to 5 %"),
    numbers("p99", "p99", "99th percentile, accurate to 5 %"),
];

/// Number of columns before the times: those up to count%.
const COUNT_COLUMNS: usize = 5;

/// Key of the column that exists only if preemption was recorded.
pub(super) const PREEMPTED: &str = "preempted";

const NOTE: &str = "<p class=\"note\">cost% is the row's share of the cost of all rows. Cost is the time outside the guest without idle time.</p>\n";

const SHOW_CAUSES: &str = "<p class=\"causes\"><label><input type=\"checkbox\" id=\"all-causes\"> Show the causes of all exits</label></p>\n";

/// Writes the section with the table.
pub(super) fn section(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|it| report.preempt_watched || it.key != PREEMPTED)
        .copied()
        .collect();
    let mut notes = NOTE.to_owned();
    if report.rows.len() > MAX_ROWS {
        notes += &format!(
            "<p class=\"note\">The table shows the {} of {} rows with the most time.</p>\n",
            count(MAX_ROWS as u64),
            count(report.rows.len() as u64)
        );
    }
    let has_causes = |row: &ExitRow| !row.causes.is_empty();
    if report.rows.iter().any(has_causes) {
        notes += SHOW_CAUSES;
    }
    sortable::begin_section(("exits", "Exits"), &notes, &columns, "time", out)?;
    let mut rows_with_causes = 0;
    for row in report.rows.iter().take(MAX_ROWS) {
        rows_with_causes += usize::from(has_causes(row));
        let is_open = rows_with_causes <= OPEN_ROWS;
        exit(row, is_open, report.preempt_watched, columns.len(), out)?;
    }
    sortable::end_section(out)
}

/// Writes a row and its causes.
fn exit(
    row: &ExitRow,
    is_open: bool,
    preempt_watched: bool,
    columns: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(out, "<tbody><tr>")?;
    sortable::vm(row.vm.as_deref().unwrap_or("?"), row.pid.unwrap_or(0), out)?;
    sortable::vcpu(row.vcpu, row.tid, out)?;
    let reason = Text(row.reason.as_deref().unwrap_or("?"));
    match (row.causes.is_empty(), is_open) {
        (true, _) => write!(out, "<td>{reason}</td>")?,
        // The style sheet shows the causes if the element is open, without a script.
        (false, is_open) => write!(
            out,
            "<td><details{}><summary>{reason}</summary></details></td>",
            if is_open { " open" } else { "" }
        )?,
    }
    number(row.count, &count(row.count), out)?;
    ratio(row.count_ratio, out)?;
    if row.is_timed() {
        times(row, preempt_watched, out)?;
    } else {
        // In contrast to a duration of 0.
        for _ in COUNT_COLUMNS..columns {
            number(0, UNKNOWN, out)?;
        }
    }
    writeln!(out, "</tr>")?;
    causes(row, columns, out)?;
    writeln!(out, "</tbody>")
}

/// Writes the cells of a row's times.
fn times(row: &ExitRow, preempt_watched: bool, out: &mut impl Write) -> io::Result<()> {
    number(row.total_ns, &duration(row.total_ns), out)?;
    ratio(row.time_ratio, out)?;
    ratio(row.cost_ratio, out)?;
    for ns in [row.kernel_ns, row.vmm_ns, row.halted_ns] {
        sortable::time(ns, out)?;
    }
    if preempt_watched {
        sortable::time(row.preempted_ns.unwrap_or_default(), out)?;
    }
    for ns in [row.min_ns, row.mean_ns, row.max_ns] {
        sortable::time(ns, out)?;
    }
    for ns in [row.p50_ns, row.p99_ns] {
        sortable::percentile(ns, out)?;
    }
    Ok(())
}

/// Writes a line per cause, with its name, count and time in the columns of the row.
fn causes(row: &ExitRow, columns: usize, out: &mut impl Write) -> io::Result<()> {
    // The column of the time is the first one after the counts.
    let rest = columns.saturating_sub(COUNT_COLUMNS + 1);
    for cause in &row.causes {
        let CauseRow {
            at_least, at_most, ..
        } = cause;
        let number = match at_least == at_most {
            true => count(*at_least),
            false => format!("{}-{}", count(*at_least), count(*at_most)),
        };
        writeln!(
            out,
            "<tr class=\"cause\"><td colspan=\"3\">{}</td><td class=\"n\">{number}</td><td></td><td class=\"n\">{}</td><td colspan=\"{rest}\"></td></tr>",
            Text(with_name(&cause.cause, cause.cause_name.as_deref())),
            duration(cause.total_ns),
        )?;
    }
    if let Some(at_most) = row.other_causes_at_most.filter(|it| *it > 0) {
        writeln!(
            out,
            "<tr class=\"cause\"><td colspan=\"3\">others, each</td><td class=\"n\">&lt;={}</td><td colspan=\"{}\"></td></tr>",
            count(at_most),
            rest + 2
        )?;
    }
    Ok(())
}
