//! The advice section of an `exits` report: each text once, with the rows that it applies to.

use std::io::{self, Write};

use super::{style::TextStyle, table::INDENT};
use crate::{
    format::{
        row_names::{as_text, row_name},
        units::{percent, rate},
    },
    outside_text::OutsideText,
    view::{Advice, Evidence, ExitRow, Finding, findings},
};

/// Maximum number of rows that are listed with a text. The rest is counted.
const MAX_ROWS: usize = 4;

/// Maximum length of a line of advice, in characters.
const MAX_LINE: usize = 100;

/// Writes the advice on all rows; nothing if there is none.
pub(super) fn write_advice(
    rows: &[ExitRow],
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let findings = findings(rows);
    if findings.is_empty() {
        return Ok(());
    }
    let title = style.bold("advice");
    writeln!(
        out,
        "\n{INDENT}{title} (explained in docs/advice.md), with the exits/s and the time share of a vCPU"
    )?;
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
        writeln!(out, "{INDENT}{topic}: {}", OutsideText::new(&names))?;
        for line in wrap(text) {
            writeln!(out, "{INDENT}    {line}")?;
        }
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

/// Splits text into lines of at most [`MAX_LINE`] characters. A longer word gets a line of its own.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= MAX_LINE
        });
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_at_most_100_characters() {
        let text = "word ".repeat(41);
        let lines = wrap(&text);
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [99, 99, 4]
        );
        assert_eq!(wrap(&"x".repeat(200)).len(), 1);
    }
}
