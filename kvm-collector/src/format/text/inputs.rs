//! The recordings of which a report is made, as text.

use std::io::{self, Write};

use super::{style::TextStyle, table::TextTable, wrap::write_sentence};
use crate::{format::units::duration, view::ReportInput};

/// Writes the recordings of a report, if there are several.
///
/// # Errors
/// When writing fails.
pub fn write_inputs(
    inputs: &[ReportInput],
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    if inputs.is_empty() {
        return Ok(());
    }
    let mut table =
        TextTable::new(&["recording", "host", "start", "duration"], 0..3).keep_end(0..1);
    for input in inputs {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        table.add_row([
            input.path.clone(),
            or_unknown(&input.host),
            or_unknown(&input.start),
            duration(input.elapsed_ns),
        ]);
    }
    if let Some(max_width) = style.max_width {
        // The duration is that of the rates.
        table.fit_width(&[0, 1, 2, 0], max_width);
    }
    table.write(style, out)?;
    let elapsed = inputs.iter().map(|it| it.elapsed_ns);
    let elapsed_ns = elapsed.fold(0, u64::saturating_add);
    let text = format!(
        "sums of {} recordings; rates and shares are those of their summed duration, {}",
        inputs.len(),
        duration(elapsed_ns)
    );
    writeln!(out)?;
    write_sentence(&text, style, out)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_listed_with_the_sum_of_their_durations() {
        let input = |path: &str, host: Option<&str>, elapsed_ns| ReportInput {
            path: path.to_owned(),
            host: host.map(str::to_owned),
            boot_id: None,
            kernel: None,
            start: host.map(|_| "2026-11-25T13:17:08.000000000Z".to_owned()),
            end: None,
            elapsed_ns,
        };
        let inputs = [
            input("a.data", Some("host-a"), 2_000_000_000),
            input("b.data", None, 3_000_000_000),
        ];
        let mut out = Vec::new();
        write_inputs(&inputs, TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[1],
            "  a.data     host-a  2026-11-25T13:17:08.000000000Z   2.000 s"
        );
        assert!(lines[2].contains('?'), "{text}");
        assert!(text.contains("sums of 2 recordings"), "{text}");
        assert!(text.contains("5.000 s"), "{text}");
    }
}
