//! Where the time of each vCPU went, as bars and as numbers.

use std::io::{self, Write};

use super::{
    super::units::{count, duration, percent},
    escape::Text,
};
use crate::view::{ExitsReport, TimePart, VcpuRow};

/// More bars nobody looks at; the table has all.
const MOST_BARS: usize = 64;

fn parts(row: &VcpuRow) -> [(TimePart, u64); 6] {
    [
        (TimePart::Guest, row.guest_ns),
        (TimePart::Kernel, row.kernel_ns),
        (TimePart::Vmm, row.vmm_ns),
        (TimePart::Halted, row.halted_ns),
        (TimePart::Preempted, row.preempted_ns),
        (TimePart::Open, row.open_ns),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
fn share(part_ns: u64, all_ns: u64) -> f64 {
    match all_ns {
        0 => 0.0,
        _ => part_ns as f64 / all_ns as f64,
    }
}

/// With a space at which no line is broken.
fn vcpu(row: &VcpuRow) -> String {
    match (row.vcpu, row.tid) {
        (Some(vcpu), _) => format!("vCPU\u{a0}{vcpu}"),
        (None, Some(tid)) => format!("thread\u{a0}{tid}"),
        (None, None) => "vCPU\u{a0}?".into(),
    }
}

pub(super) fn section(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    if report.vcpus.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section aria-labelledby=\"h-split\">\n<h2 id=\"h-split\">Where the vCPUs' time went</h2>"
    )?;
    legend(out)?;
    let mut most: Vec<_> = report.vcpus.iter().collect();
    if most.len() > MOST_BARS {
        most.sort_by_key(|it| std::cmp::Reverse(it.count));
        most.truncate(MOST_BARS);
        writeln!(
            out,
            "<p class=\"note\">The {MOST_BARS} vCPUs with the most exits; the table below has all.</p>"
        )?;
    }
    writeln!(out, "<ul class=\"bars\">")?;
    for row in most {
        bar(row, out)?;
    }
    writeln!(out, "</ul>")?;
    table(report, out)?;
    writeln!(out, "</section>")
}

pub(super) fn legend(out: &mut impl Write) -> io::Result<()> {
    write!(out, "<ul class=\"legend\">")?;
    for part in TimePart::ALL {
        let means = match part {
            TimePart::Guest => "in the guest",
            TimePart::Kernel => "in the kernel on its behalf",
            TimePart::Vmm => "in the VMM's user space",
            TimePart::Halted => "halted, with nothing to do",
            TimePart::Preempted => {
                "ready, but not running; only known where sched_switch was recorded"
            }
            TimePart::Open => "out of the guest and not back at the end",
        };
        let name = part.name();
        write!(
            out,
            "<li title=\"{}\"><i class=\"p-{name}\"></i>{name}</li>",
            Text(means)
        )?;
    }
    writeln!(out, "</ul>")
}

fn bar(row: &VcpuRow, out: &mut impl Write) -> io::Result<()> {
    let parts = parts(row);
    let all_ns = parts.iter().map(|it| it.1).fold(0, u64::saturating_add);
    let there = || parts.iter().filter(|it| it.1 > 0);
    let words: Vec<_> = there()
        .map(|(part, ns)| format!("{} {}", part.name(), percent(share(*ns, all_ns))))
        .collect();
    write!(
        out,
        "<li><span class=\"name\">{} {}</span><span class=\"bar\" role=\"img\" aria-label=\"{}\">",
        super::vm(&row.vm, row.pid),
        Text(vcpu(row)),
        Text(words.join(", ")),
    )?;
    for (part, ns) in there() {
        let share = share(*ns, all_ns);
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
    for part in TimePart::ALL {
        write!(out, "<th scope=\"col\" class=\"n\">{}</th>", part.name())?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in &report.vcpus {
        let parts = parts(row);
        let all_ns = parts.iter().map(|it| it.1).fold(0, u64::saturating_add);
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td>",
            super::vm(&row.vm, row.pid),
            Text(vcpu(row)),
            count(row.count),
        )?;
        for (part, ns) in parts {
            if part == TimePart::Preempted && !report.preempt_watched {
                write!(out, "<td class=\"n\">{}</td>", super::UNKNOWN)?;
                continue;
            }
            write!(
                out,
                "<td class=\"n\">{} <small>{}</small></td>",
                duration(ns),
                percent(share(ns, all_ns))
            )?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody>\n</table>\n</div>\n</details>")
}
