//! The table that shows where the time of each vCPU went.

use super::{exits_columns::NOT_MEASURED, style::TextStyle, table::TextTable};
use crate::{
    format::{
        row_names::{as_text, counted_unit, vcpu_name, vm_name},
        units::{count, duration, percent},
    },
    view::{ExitsReport, VcpuRow},
};

/// Creates the table with the columns that fit into a line. Times are shares of the report's time, except for the time of an exit
/// in progress.
pub(super) fn vcpu_table(report: &ExitsReport, style: TextStyle) -> TextTable {
    let has_hosts = report.vcpus.iter().any(|row| row.host.is_some());
    let mut header = Vec::new();
    if has_hosts {
        header.push("host");
    }
    let counted = match counted_unit(&report.kind) {
        "exit" => "exits",
        _ => "events",
    };
    header.extend(["VM", "vCPU", counted, "guest", "kernel", "VMM", "halted"]);
    if report.preempt_watched {
        header.push("preempted");
    }
    header.push("in progress");
    let mut table = TextTable::new(&header, 0..2 + usize::from(has_hosts));
    for row in &report.vcpus {
        // The shares add up to less than 100 % if the vCPU was created later or had no exits for some time.
        let elapsed_ns = row.elapsed_ns.unwrap_or(report.elapsed_ns);
        let share = |ns: u64| percent(ratio(ns, elapsed_ns));
        let VcpuRow {
            guest_ns,
            kernel_ns,
            vmm_ns,
            halted_ns,
            ..
        } = *row;
        let mut cells = Vec::new();
        if has_hosts {
            cells.push(
                row.host
                    .as_ref()
                    .map_or_else(String::new, |it| it.label().to_owned()),
            );
        }
        cells.extend([
            vm_name(&row.vm, row.pid, as_text),
            vcpu_name(row.vcpu, row.tid).unwrap_or_default(),
            count(row.count),
        ]);
        cells.extend([guest_ns, kernel_ns, vmm_ns, halted_ns].map(share));
        if report.preempt_watched {
            cells.push(
                row.preempted_ns
                    .map_or_else(|| NOT_MEASURED.to_owned(), share),
            );
        }
        cells.push(match row.open_ns {
            0 => String::new(),
            ns => duration(ns),
        });
        table.add_row(cells);
    }
    if let Some(max_width) = style.max_width {
        // The share in the guest and the exit in progress are most important, because no other table has them.
        let ranks = header.iter().map(|name| match *name {
            "kernel" => 5,
            "exits" | "events" => 4,
            "halted" => 3,
            "VMM" => 2,
            "preempted" => 1,
            _ => 0,
        });
        table.fit_width(&ranks.collect::<Vec<_>>(), max_width);
    }
    table
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}
