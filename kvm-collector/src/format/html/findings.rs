//! The advice on expensive exit reasons of VMs, each with the rows that it is about.

use std::io::{self, Write};

use super::escape::Text;
use crate::{
    format::{
        row_names::{exact, row_name, with_name},
        units::{percent, plural, rate},
    },
    view::{Advice, ExitRow, ExitsReport, Finding, findings},
};

/// Maximum number of rows that are listed with an advice. The rest is counted.
const MAX_ROWS: usize = 8;

/// Writes the section. The rows of the report are by VM and reason.
pub(super) fn section(report: &ExitsReport, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<section aria-labelledby=\"h-findings\">\n<h2 id=\"h-findings\">Findings</h2>"
    )?;
    let findings = findings(&report.rows);
    if findings.is_empty() {
        return writeln!(
            out,
            "<p class=\"note\">There is no advice: no exit reason of a VM is expensive, or nothing is known about those that are.</p>\n</section>"
        );
    }
    writeln!(
        out,
        "<p class=\"note\">Advice on the exit reasons that cost most, as <code>exits --by vm,reason --advice</code> prints it. Cost is the time outside the guest without idle time. Advice is a rule of thumb: measure again after a change.</p>\n<dl class=\"findings\">"
    )?;
    for Finding { advice, rows } in findings {
        let Advice { topic, text } = advice;
        writeln!(
            out,
            "<div><dt>{}</dt><dd><p>{}</p><ul>",
            Text(topic),
            Text(text)
        )?;
        for row in rows.iter().take(MAX_ROWS) {
            writeln!(out, "<li>{}</li>", evidence(row))?;
        }
        if let Some(more) = rows.len().checked_sub(MAX_ROWS).filter(|it| *it > 0) {
            writeln!(out, "<li>{more} more</li>")?;
        }
        writeln!(out, "</ul></dd></div>")?;
    }
    writeln!(out, "</dl>\n</section>")
}

/// Describes a row: what it is, its cost and number of exits, and the most frequent cause.
fn evidence(row: &ExitRow) -> String {
    let mut html = format!(
        "<strong>{}</strong>: {} of the cost, {}",
        Text(row_name(row, exact)),
        percent(row.cost_ratio),
        plural(row.count, "exit")
    );
    if let Some(numbers) = row.evidence {
        html += &format!(
            ", {} per second of a vCPU, {} of the time of the vCPUs",
            rate(numbers.exits_per_vcpu_s),
            percent(numbers.vcpu_time_ratio)
        );
    }
    if let Some(cause) = row.causes.first() {
        let name = with_name(&cause.cause, cause.cause_name.as_deref());
        html += &format!(", most often {}", Text(name));
    }
    html
}
