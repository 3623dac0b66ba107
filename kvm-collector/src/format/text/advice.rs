//! Advice as text: each piece once, below the rows that it is for.

use std::io::{self, Write};

use super::{INDENT, Look, exits::name_of};
use crate::view::{Advice, ExitRow};

/// Of the rows that a piece of advice is for, so many are named.
const NAMED: usize = 4;

/// As wide as text is comfortable to read.
const WIDTH: usize = 100;

pub(super) fn write(rows: &[ExitRow], look: Look, out: &mut impl Write) -> io::Result<()> {
    let mut pieces: Vec<(Advice, Vec<&ExitRow>)> = Vec::new();
    for row in rows {
        for advice in &row.advice {
            match pieces.iter_mut().find(|(it, _)| it == advice) {
                Some((_, rows)) => rows.push(row),
                None => pieces.push((*advice, vec![row])),
            }
        }
    }
    if pieces.is_empty() {
        return Ok(());
    }
    let title = look.bold("what to do");
    writeln!(out, "\n{INDENT}{title} (docs/advice.md says why)")?;
    for (Advice { topic, text }, rows) in pieces {
        let mut names: Vec<_> = rows.iter().take(NAMED).map(|row| name_of(row)).collect();
        if rows.len() > NAMED {
            names.push(format!("{} more", rows.len() - NAMED));
        }
        writeln!(out, "{INDENT}{topic}: {}", names.join("; "))?;
        for line in wrapped(text) {
            writeln!(out, "{INDENT}    {line}")?;
        }
    }
    Ok(())
}

/// Lines of at most [`WIDTH`], if no word is longer.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= WIDTH
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
    fn lines_are_not_too_long() {
        let text = "word ".repeat(41);
        let lines = wrapped(&text);
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [99, 99, 4]
        );
        assert_eq!(wrapped(&"x".repeat(200)).len(), 1);
    }
}
