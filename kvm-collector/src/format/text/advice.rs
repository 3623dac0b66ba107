//! The advice section of an `exits` report: each text once, with the rows that it applies to.

use std::io::{self, Write};

use super::{
    style::TextStyle,
    wrap::{write_indented, write_sentence, write_title},
};
use crate::{
    format::{
        row_names::{as_text, row_name_of_all_vcpus, vcpu_name},
        units::{percent, rate},
    },
    view::{Advice, Evidence, ExitRow, Finding, findings},
};

/// Maximum number of VMs' exit reasons, and of vCPUs of each, that are listed with a text. The rest is counted.
const MAX_LISTED: usize = 4;

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
        "advice (explained in docs/advice.md), with the mean {unit}s/s and time share of the VM's vCPUs"
    );
    write_title(&text, style, out)?;
    let text_style = TextStyle {
        max_width: Some(style.max_width.map_or(MAX_WIDTH, |it| it.min(MAX_WIDTH))),
        ..style
    };
    for finding in findings {
        let Finding { advice, rows } = finding;
        let Advice { topic, text } = advice;
        let names = first_ones(&subjects(&rows)).join("; ");
        write_sentence(&format!("{topic}: {names}"), style, out)?;
        write_indented(text, "      ", text_style, out)?;
    }
    Ok(())
}

/// Returns the names of the rows, with the numbers that their advice is based on. Those are numbers of a VM, so rows that
/// differ only in their vCPU share a name, which lists the vCPUs.
fn subjects(rows: &[&ExitRow]) -> Vec<String> {
    let mut vcpus: Vec<(String, Option<Evidence>, Vec<String>)> = Vec::new();
    for row in rows {
        let name = row_name_of_all_vcpus(row, as_text);
        let vcpu = vcpu_name(row.vcpu, row.tid);
        match vcpus.iter_mut().find(|(it, ..)| *it == name) {
            Some((_, _, vcpus)) => vcpus.extend(vcpu),
            None => vcpus.push((name, row.evidence, vcpu.into_iter().collect())),
        }
    }
    let subject = |(name, evidence, vcpus): (String, Option<Evidence>, Vec<String>)| {
        let vcpus = match vcpus.as_slice() {
            [] => String::new(),
            vcpus => format!(" on vCPU {}", first_ones(vcpus).join(", ")),
        };
        let evidence = evidence.map_or_else(String::new, |it| {
            let (rate, share) = (rate(it.exits_per_vcpu_s), percent(it.vcpu_time_ratio));
            format!(" ({rate}/s, {share})")
        });
        format!("{name}{vcpus}{evidence}")
    };
    vcpus.into_iter().map(subject).collect()
}

/// Returns the first names, and how many more there are.
fn first_ones(names: &[String]) -> Vec<String> {
    let mut first: Vec<_> = names.iter().take(MAX_LISTED).cloned().collect();
    if let Some(more) = names.len().checked_sub(MAX_LISTED).filter(|it| *it > 0) {
        first.push(format!("and {more} more"));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(vm: &str, vcpu: u32, exits_per_vcpu_s: f64) -> ExitRow {
        ExitRow {
            vm: Some(vm.to_owned()),
            pid: Some(7),
            vcpu: Some(vcpu),
            reason: Some("hlt".to_owned()),
            evidence: Some(Evidence {
                exits_per_vcpu_s,
                vcpu_time_ratio: 0.0733,
            }),
            ..ExitRow::default()
        }
    }

    /// The numbers are not those of a vCPU, so they must not stand behind each of them.
    #[test]
    fn vcpus_of_a_vm_share_its_numbers() {
        let mut rows: Vec<_> = (0..6).map(|vcpu| row("web", vcpu, 590.0)).collect();
        rows.push(row("db", 3, 20.0));
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(
            subjects(&rows),
            [
                "web (pid 7), hlt on vCPU 0, 1, 2, 3, and 2 more (590/s, 7.33%)",
                "db (pid 7), hlt on vCPU 3 (20.0/s, 7.33%)"
            ]
        );
    }
}
