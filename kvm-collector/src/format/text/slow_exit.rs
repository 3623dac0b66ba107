//! A slow exit as a sentence.

use std::io::{self, Write};

use super::{
    style::TextStyle,
    wrap::{write_sentence, write_title},
};
use crate::{
    format::{
        local_time,
        row_names::{as_text, counted_unit, vcpu_name, vm_name, with_name},
        units::duration,
    },
    view::{ExitsReport, ReportOrigin, SlowExitRow},
};

/// Writes the heading of a section of slow exits.
///
/// # Errors
/// When writing fails.
pub fn write_slow_exits_heading(
    limit_ns: u64,
    kind: &str,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let (limit, unit) = (duration(limit_ns), counted_unit(kind));
    let heading =
        format!("{unit}s that took longer than {limit}, without halted time (with their start)");
    write_title(&heading, style, out)
}

/// Writes that no exit of a report was slow, and how long the longest took. The report must have all slow exits.
///
/// # Errors
/// When writing fails.
pub fn write_no_slow_exit(
    report: &ExitsReport,
    limit_ns: u64,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let (limit, unit) = (duration(limit_ns), counted_unit(&report.kind));
    let longest = match (report.max_ns, report.halted_ns) {
        (0, _) => String::new(),
        (ns, 0) => format!("; the longest took {}", duration(ns)),
        (ns, _) => format!("; with halted time, the longest took {}", duration(ns)),
    };
    let text = format!("no {unit} took longer than {limit}, without halted time{longest}");
    write_sentence(&text, style, out)
}

/// Writes a sentence about a slow exit: when it started, in local time, or in seconds of the clock of the events if a recording does
/// not contain the date.
///
/// # Errors
/// When writing fails.
pub fn write_slow_exit(
    row: &SlowExitRow,
    origin: &ReportOrigin,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let unix_ns = origin
        .wall_offset_ns
        .and_then(|offset_ns| offset_ns.checked_add(row.time_ns));
    let start = unix_ns
        .and_then(local_time::date_and_time)
        .unwrap_or_else(|| {
            let (seconds, ns) = (row.time_ns / 1_000_000_000, row.time_ns % 1_000_000_000);
            format!("{seconds}.{:06}", ns / 1000)
        });
    let vcpu = vcpu_name(row.vcpu, Some(row.tid)).unwrap_or_default();
    let mut text = format!(
        "{start} {}, vCPU {vcpu}: {} took {}",
        vm_name(&row.vm, row.pid, as_text),
        with_name(row.label(), row.key_name.as_deref()),
        duration(row.duration_ns)
    );
    let parts = [
        ("kernel", row.kernel_ns),
        ("VMM", row.vmm_ns),
        ("halted", row.halted_ns),
        ("preempted", row.preempted_ns.unwrap_or_default()),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(part, ns)| format!("{part} {}", duration(*ns)))
        .collect();
    text += &format!(" ({})", parts.join(", "));
    if let Some(cause) = &row.cause {
        let cause = with_name(cause, row.cause_name.as_deref());
        text += &format!(", {cause}");
    }
    text += &format!(", at {}", row.guest_rip);
    write_sentence(&text, style, out)
}
