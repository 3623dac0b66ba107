//! A slow exit as one line of text.

use std::io::{self, Write};

use super::table::INDENT;
use crate::{
    format::{
        row_names::{vcpu_name, with_name},
        units::duration,
    },
    view::SlowExitRow,
};

/// Writes one line about a slow exit.
///
/// # Errors
/// When writing fails.
pub fn write_slow_exit(row: &SlowExitRow, out: &mut impl Write) -> io::Result<()> {
    let (seconds, ns) = (row.end_ns / 1_000_000_000, row.end_ns % 1_000_000_000);
    let vcpu = vcpu_name(row.vcpu, Some(row.tid)).unwrap_or_default();
    write!(
        out,
        "{INDENT}{seconds}.{:06} {} (pid {}), vCPU {vcpu}: {} took {}",
        ns / 1000,
        row.vm,
        row.pid,
        with_name(&row.what, row.what_name.as_deref()),
        duration(row.time_ns)
    )?;
    let parts = [
        ("kernel", row.kernel_ns),
        ("VMM", row.vmm_ns),
        ("halted", row.halted_ns),
        ("preempted", row.preempted_ns),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(part, ns)| format!("{part} {}", duration(*ns)))
        .collect();
    write!(out, " ({})", parts.join(", "))?;
    if let Some(cause) = &row.cause {
        write!(out, ", {}", with_name(cause, row.cause_name.as_deref()))?;
    }
    writeln!(out, ", at {:#x}", row.guest_rip)
}
