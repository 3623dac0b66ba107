//! The advice section of an `exits` report: each text once, with the rows that it applies to.

use std::io::{self, Write};

use super::{
    style::TextStyle,
    wrap::{write_indented, write_sentence, write_title},
};
use crate::{
    format::{
        row_names::{as_text, row_name},
        units::{percent, rate},
    },
    view::{Advice, Evidence, ExitRow, Finding, findings},
};

/// Maximum number of rows that are listed with a text. The rest is counted.
const MAX_ROWS: usize = 4;

/// Maximum width of a line of advice, also if the output is wider.
const MAX_WIDTH: usize = 106;

/// Writes the advice on all rows; nothing if there is none.
pub(super) fn write_advice(
    rows: &[ExitRow],
    unit: &str,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let findings = findings(rows);
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let text = format!(
        "advice (explained in docs/advice.md), with the {unit}s/s and the time share of a vCPU"
    );
    write_title(&text, style, out)?;
    let text_style = TextStyle {
        max_width: Some(style.max_width.map_or(MAX_WIDTH, |it| it.min(MAX_WIDTH))),
        ..style
    };
    for finding in findings {
        let Finding { advice, rows } = finding;
        let Advice { topic, text } = advice;
        let mut names: Vec<_> = rows
            .iter()
            .take(MAX_ROWS)
            .map(|row| name_with_evidence(row))
            .collect();
        if rows.len() > MAX_ROWS {
            names.push(format!("{} more", rows.len() - MAX_ROWS));
        }
        let names = names.join("; ");
        write_sentence(&format!("{topic}: {names}"), style, out)?;
        write_indented(text, "      ", text_style, out)?;
    }
    Ok(())
}

/// Returns the name of a row, and the numbers that its advice is based on.
fn name_with_evidence(row: &ExitRow) -> String {
    match row.evidence {
        Some(Evidence {
            exits_per_vcpu_s,
            vcpu_time_ratio,
        }) => format!(
            "{} ({}/s, {})",
            row_name(row, as_text),
            rate(exits_per_vcpu_s),
            percent(vcpu_time_ratio)
        ),
        None => row_name(row, as_text),
    }
}
