//! Human-readable output of a diagnosis.

use std::io::{self, Write};

use super::{CommandCheck, Diagnosis, Status};
use crate::outside_text::OutsideText;

/// Writes one line per check and per command, followed by its advice, then the result.
///
/// # Errors
/// If writing fails.
pub fn write_text(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let widths = diagnosis.checks.iter().map(|check| check.name.len());
    let width = widths.max().unwrap_or(0);
    for check in &diagnosis.checks {
        writeln!(
            out,
            "{:<4}  {:<width$}  {}",
            check.status,
            check.name,
            OutsideText::new(&check.found)
        )?;
        if let Some(advice) = &check.advice {
            let advice = OutsideText::new(advice);
            writeln!(out, "      {:<width$}  -> {advice}", "")?;
        }
    }
    writeln!(out)?;
    for command in &diagnosis.commands {
        write_command(out, command, width)?;
    }
    if !diagnosis.usable {
        return writeln!(out, "\nkvm-collector cannot work here.");
    }
    let names = |has: fn(&CommandCheck) -> bool| {
        let commands = diagnosis.commands.iter().filter(|&it| has(it));
        commands.map(|it| it.command).collect::<Vec<_>>().join(", ")
    };
    let works = names(CommandCheck::works);
    writeln!(out, "\nkvm-collector can work here: {works}.")?;
    let untried = names(|it| it.status == Status::Skip);
    if !untried.is_empty() {
        writeln!(out, "It is unknown whether these work: {untried}.")?;
    }
    Ok(())
}

fn write_command(out: &mut impl Write, command: &CommandCheck, width: usize) -> io::Result<()> {
    let options: Vec<_> = command.without.iter().map(|it| it.option).collect();
    let error = command.refusal.as_ref().map_or("", |it| &it.error);
    let error = OutsideText::new(error);
    let found = match command.status {
        Status::Ok => "works".to_owned(),
        Status::Warn => format!("works without {}", options.join(", ")),
        Status::Fail => format!("does not work: {error}"),
        Status::Skip => format!("could not be tried: {error}"),
    };
    writeln!(
        out,
        "{:<4}  {:<width$}  {found}",
        command.status, command.command
    )?;
    for failed in &command.without {
        let error = OutsideText::new(&failed.refusal.error);
        writeln!(out, "      {:<width$}  {}: {error}", "", failed.option)?;
    }
    let refusals = command.without.iter().map(|it| &it.refusal);
    let mut advice: Vec<_> = refusals
        .chain(&command.refusal)
        .map(|it| it.advice.as_str())
        .collect();
    advice.dedup();
    for advice in advice.into_iter().map(OutsideText::new) {
        writeln!(out, "      {:<width$}  -> {advice}", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::diagnosis::{Check, Refusal};

    #[test]
    fn findings_are_one_line_each() {
        let check = Check {
            name: "kernel",
            status: Status::Warn,
            found: "6.12\n\x1b[2J".into(),
            advice: Some("run\rit".into()),
        };
        let command = CommandCheck::new(
            "stat",
            Status::Fail,
            Some(Refusal {
                error: "no\nmap".into(),
                advice: "wait\r".into(),
            }),
        );
        let mut out = Vec::new();
        write_text(&mut out, &Diagnosis::new(None, vec![check], vec![command])).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "warn  kernel  6.12\\n\\x1b[2J\n              -> run\\rit\n\nFAIL  stat    does not work: no\\nmap\n              -> wait\\r\n\nkvm-collector cannot work here.\n"
        );
    }
}
