//! Human-readable output of a diagnosis.

use std::io::{self, Write};

use super::{CommandCheck, Diagnosis, Status};
use crate::outside_text::wrap;

/// Writes each check and command, followed by its advice, then the result. Lines have at most `max_width` columns of the terminal.
///
/// # Errors
/// If writing fails.
pub fn write_text(
    out: &mut impl Write,
    diagnosis: &Diagnosis,
    max_width: Option<usize>,
) -> io::Result<()> {
    let widths = diagnosis.checks.iter().map(|check| check.name.len());
    let lines = Lines {
        name_width: widths.max().unwrap_or(0),
        max_width,
    };
    for check in &diagnosis.checks {
        lines.write(check.status, check.name, &check.found, out)?;
        if let Some(advice) = &check.advice {
            lines.write_advice(advice, out)?;
        }
    }
    writeln!(out)?;
    for command in &diagnosis.commands {
        write_command(out, command, &lines)?;
    }
    let names = |has: fn(&CommandCheck) -> bool| {
        let commands = diagnosis.commands.iter().filter(|&it| has(it));
        commands.map(|it| it.command).collect::<Vec<_>>().join(", ")
    };
    let untried = names(|it| it.status == Status::Skip);
    let mut result = match diagnosis.usable {
        true => format!(
            "kvm-collector can work here: {}.",
            names(CommandCheck::works)
        ),
        false => "kvm-collector cannot work here.".to_owned(),
    };
    if diagnosis.usable && !untried.is_empty() {
        result += &format!(" It is unknown whether these work: {untried}.");
    }
    writeln!(out)?;
    write_lines(wrap("", &result, "", max_width), out)
}

/// How the lines are laid out: a status, a name and text.
struct Lines {
    /// Width of the names.
    name_width: usize,
    max_width: Option<usize>,
}

impl Lines {
    fn write(
        &self,
        status: Status,
        name: &str,
        text: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let width = self.name_width;
        let first = format!("{status:<4}  {name:<width$}  ");
        self.write_behind(&first, text, "  ", out)
    }

    /// Writes text below that of a check or command.
    fn write_below(&self, text: &str, out: &mut impl Write) -> io::Result<()> {
        self.write_behind(&self.indent(), text, "  ", out)
    }

    fn write_advice(&self, advice: &str, out: &mut impl Write) -> io::Result<()> {
        let first = format!("{}-> ", self.indent());
        self.write_behind(&first, advice, "   ", out)
    }

    /// Returns the indentation of the text.
    fn indent(&self) -> String {
        " ".repeat("warn  ".len() + self.name_width + 2)
    }

    fn write_behind(
        &self,
        first: &str,
        text: &str,
        further: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let rest = format!("{}{further}", self.indent());
        write_lines(wrap(first, text, &rest, self.max_width), out)
    }
}

fn write_lines(lines: Vec<String>, out: &mut impl Write) -> io::Result<()> {
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn write_command(out: &mut impl Write, command: &CommandCheck, lines: &Lines) -> io::Result<()> {
    let options: Vec<_> = command.without.iter().map(|it| it.option).collect();
    let error = command.refusal.as_ref().map_or("", |it| &it.error);
    let found = match command.status {
        Status::Ok => "works".to_owned(),
        Status::Warn => format!("works without {}", options.join(", ")),
        Status::Fail => format!("does not work: {error}"),
        Status::Skip => format!("could not be tried: {error}"),
    };
    lines.write(command.status, command.command, &found, out)?;
    for failed in &command.without {
        let text = format!("{}: {}", failed.option, failed.refusal.error);
        lines.write_below(&text, out)?;
    }
    let refusals = command.without.iter().map(|it| &it.refusal);
    let mut advice: Vec<_> = refusals
        .chain(&command.refusal)
        .map(|it| it.advice.as_str())
        .collect();
    advice.dedup();
    for advice in advice {
        lines.write_advice(advice, out)?;
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
        let diagnosis = Diagnosis::new(None, vec![check], vec![command]);
        write_text(&mut out, &diagnosis, None).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "warn  kernel  6.12\\n\\x1b[2J\n              -> run\\rit\n\nFAIL  stat    does not work: no\\nmap\n              -> wait\\r\n\nkvm-collector cannot work here.\n"
        );
    }

    #[test]
    fn lines_fit_into_the_width() {
        let text = "a b c d e f g h i j k l m n o p q r s t u v w x y z ".repeat(4);
        let check = Check {
            name: "kernel",
            status: Status::Ok,
            found: text.clone(),
            advice: Some(text.clone()),
        };
        let refusal = Refusal {
            error: text.clone(),
            advice: text,
        };
        let command = CommandCheck::new("stat", Status::Fail, Some(refusal));
        for width in [40, 80, 120] {
            let mut out = Vec::new();
            let diagnosis = Diagnosis::new(None, vec![check.clone()], vec![command.clone()]);
            write_text(&mut out, &diagnosis, Some(width)).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.lines().all(|it| it.len() <= width), "{text}");
            assert!(text.contains("\n                "), "{text}");
        }
    }
}
