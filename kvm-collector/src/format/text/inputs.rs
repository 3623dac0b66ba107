//! The recordings of which a report is made, as text.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{style::TextStyle, table::TextTable, wrap::write_sentence};
use crate::{
    format::{
        local_time,
        units::{duration, plural},
    },
    view::ReportInput,
};

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
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
        let start = input.start.as_deref().and_then(local_time::of_utc);
        table.add_row([
            input.path.clone(),
            or_unknown(input.host.clone()),
            or_unknown(start),
            duration(input.elapsed_ns),
        ]);
    }
    if let Some(max_width) = style.max_width {
        // Rates are those of the durations.
        table.fit_width(&[0, 1, 2, 0], max_width);
    }
    table.write(style, out)?;
    let hosts: BTreeSet<_> = inputs
        .iter()
        .map(|it| it.host.as_ref().ok_or(&it.path))
        .collect();
    let text = match hosts.len() {
        1 => format!(
            "sums of {}; rates and shares are those of the time that they cover",
            plural(inputs.len() as u64, "recording")
        ),
        hosts => format!(
            "sums of {} recordings of {hosts} hosts; rates and shares of a host are those of the time that its recordings cover, and rates of all hosts are the sums of their rates",
            inputs.len()
        ),
    };
    writeln!(out)?;
    write_sentence(&text, style, out)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::SelectedBy;

    #[test]
    fn recordings_are_listed_with_the_sum_of_their_durations() {
        let input = |path: &str, host: Option<&str>, elapsed_ns| ReportInput {
            path: path.to_owned(),
            host: host.map(str::to_owned),
            boot_id: None,
            kernel: None,
            recording_selection: SelectedBy::default(),
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
        let start = local_time::of_utc("2026-11-25T13:17:08Z").unwrap();
        assert_eq!(lines[1], format!("  a.data     host-a  {start}   2.000 s"));
        assert!(lines[2].contains('?'), "{text}");
        assert!(text.contains("sums of 2 recordings of 2 hosts;"), "{text}");
    }
}
