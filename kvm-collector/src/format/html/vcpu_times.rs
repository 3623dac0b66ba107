//! Where the time of each vCPU went: a bar per vCPU, and a table.

use std::io::{self, Write};

use super::{cells, escape::Text};
use crate::{
    format::units::{count, duration, percent},
    view::{ExitsReport, TimePart, VcpuRow},
};

/// Maximum number of bars. The table has all vCPUs.
const MAX_BARS: usize = 64;

fn parts(row: &VcpuRow) -> [(TimePart, u64); 6] {
    [
        (TimePart::Guest, row.guest_ns),
        (TimePart::Kernel, row.kernel_ns),
        (TimePart::Vmm, row.vmm_ns),
        (TimePart::Halted, row.halted_ns),
        (TimePart::Preempted, row.preempted_ns.unwrap_or_default()),
        (TimePart::Open, row.open_ns),
    ]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
fn share(part_ns: u64, total_ns: u64) -> f64 {
    match total_ns {
        0 => 0.0,
        _ => part_ns as f64 / total_ns as f64,
    }
}

/// Returns the name of a vCPU, with a non-breaking space.
fn vcpu(row: &VcpuRow) -> String {
    match (row.vcpu, row.tid) {
        (Some(vcpu), _) => format!("vCPU\u{a0}{vcpu}"),
        (None, Some(tid)) => format!("thread\u{a0}{tid}"),
        (None, None) => "vCPU\u{a0}?".into(),
    }
}

/// Writes the section.
pub(super) fn section(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    if report.vcpus.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section aria-labelledby=\"h-split\">\n<h2 id=\"h-split\">Where the vCPUs' time went</h2>"
    )?;
    let is_used = |part: TimePart| {
        let mut all = report.vcpus.iter().flat_map(parts);
        all.any(|(it, ns)| it == part && ns > 0)
    };
    legend(is_used, out)?;
    let mut rows: Vec<_> = report.vcpus.iter().collect();
    if rows.len() > MAX_BARS {
        rows.sort_by_key(|it| std::cmp::Reverse(it.count));
        rows.truncate(MAX_BARS);
        writeln!(
            out,
            "<p class=\"note\">The bars show the {MAX_BARS} vCPUs with the most exits. The table below has all vCPUs.</p>"
        )?;
    }
    writeln!(out, "<ul class=\"bars\">")?;
    for row in rows {
        bar(row, out)?;
    }
    writeln!(out, "</ul>")?;
    table(report, out)?;
    writeln!(out, "</section>")
}

/// Writes the legend of the parts of time that are used.
pub(super) fn legend(is_used: impl Fn(TimePart) -> bool, out: &mut impl Write) -> io::Result<()> {
    write!(out, "<ul class=\"legend\">")?;
    for part in TimePart::ALL.into_iter().filter(|it| is_used(*it)) {
        let meaning = match part {
            TimePart::Guest => "in the guest",
            TimePart::Kernel => "in the kernel, on behalf of the guest",
            TimePart::Vmm => "in the VMM's user space",
            TimePart::Halted => "halted: the guest had nothing to do",
            TimePart::Preempted => "runnable, but not running",
            TimePart::Open => "in an exit that was still in progress at the end",
        };
        let name = part.name();
        write!(
            out,
            "<li title=\"{}\"><i class=\"p-{name}\"></i>{name}</li>",
            Text(meaning)
        )?;
    }
    writeln!(out, "</ul>")
}

fn bar(row: &VcpuRow, out: &mut impl Write) -> io::Result<()> {
    let parts = parts(row);
    let total_ns = parts.iter().map(|it| it.1).fold(0, u64::saturating_add);
    let nonzero = || parts.iter().filter(|it| it.1 > 0);
    let labels: Vec<_> = nonzero()
        .map(|(part, ns)| format!("{} {}", part.name(), percent(share(*ns, total_ns))))
        .collect();
    write!(
        out,
        "<li><span class=\"name\">{} {}</span><span class=\"bar\" role=\"img\" aria-label=\"{}\">",
        cells::vm(&row.vm, row.pid),
        Text(vcpu(row)),
        Text(labels.join(", ")),
    )?;
    for (part, ns) in nonzero() {
        let share = share(*ns, total_ns);
        let name = part.name();
        let text = format!("{name} {}: {}", percent(share), duration(*ns));
        write!(
            out,
            "<i class=\"p-{name}\" style=\"width:{:.3}%\" title=\"{text}\"></i>",
            share * 100.0
        )?;
    }
    writeln!(out, "</span></li>")
}

fn table(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<details>\n<summary>As numbers</summary>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Time of each vCPU\">\n\
         <table>\n<thead><tr><th scope=\"col\">VM</th><th scope=\"col\">vCPU</th><th scope=\"col\" class=\"n\">exits</th>"
    )?;
    let is_known = |part: &TimePart| *part != TimePart::Preempted || report.preempt_watched;
    for part in TimePart::ALL.into_iter().filter(is_known) {
        write!(out, "<th scope=\"col\" class=\"n\">{}</th>", part.name())?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in &report.vcpus {
        let parts = parts(row);
        let total_ns = parts.iter().map(|it| it.1).fold(0, u64::saturating_add);
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td>",
            cells::vm(&row.vm, row.pid),
            Text(vcpu(row)),
            count(row.count),
        )?;
        for (_, ns) in parts.into_iter().filter(|(part, _)| is_known(part)) {
            write!(
                out,
                "<td class=\"n\">{} <small>{}</small></td>",
                duration(ns),
                percent(share(ns, total_ns))
            )?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody>\n</table>\n</div>\n</details>")
}
