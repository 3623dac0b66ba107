//! The lines above a report: what was measured, on which host, what was selected, and from when to when.

use std::io::{self, Write};

use super::{distinct_names::distinct_names, style::TextStyle, wrap::write_title};
use crate::{
    format::{
        local_time,
        units::{duration, plural},
    },
    view::ReportOrigin,
};

/// Writes the line above the first report: `VM exits of host1, Linux 6.12.57, recorded in kvm.data; VM web-*`.
///
/// # Errors
/// When writing fails.
pub fn write_heading(
    what: &str,
    origin: &ReportOrigin,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut line = what.to_owned();
    // The host and the kernel of a report on several recordings are those of the recordings.
    let (hosts, kernels) = match origin.inputs.as_slice() {
        [] => (vec![&origin.header.host], vec![&origin.header.kernel]),
        inputs => (
            inputs.iter().map(|it| &it.host).collect(),
            inputs.iter().map(|it| &it.kernel).collect(),
        ),
    };
    if let Some(hosts) = distinct_names(hosts.into_iter(), "", "host") {
        line += &format!(" of {hosts}");
    }
    if let Some(kernels) = distinct_names(kernels.into_iter(), "Linux ", "kernel") {
        line += &format!(", {kernels}");
    }
    if let Some(input) = &origin.input {
        line += &format!(", recorded in {input}");
        let limits = origin.recording_selection.descriptions();
        if !limits.is_empty() {
            line += &format!(" only for {}", limits.join(", "));
        }
    } else if !origin.inputs.is_empty() {
        let files = plural(origin.inputs.len() as u64, "file");
        line += &format!(", recorded in {files}");
        let limited = origin.inputs.iter();
        let limited = limited.filter(|it| !it.recording_selection.is_empty());
        match limited.count() {
            0 => {}
            number if number == origin.inputs.len() => line += " only for a selection",
            number => line += &format!(" ({number} of them only for a selection)"),
        }
    }
    if let Some(command) = &origin.command {
        line += &format!(", while `{command}` ran");
    }
    for selected in origin.selection.descriptions() {
        line += &format!("; {selected}");
    }
    if origin.vcpus_from_thread_names {
        line += "; vCPU numbers from thread names, as the events have none";
    }
    if !origin.unmeasured.is_empty() {
        let names = |part: &&str| match *part {
            "vmm_ns" => "in the VMM",
            _ => "halted",
        };
        let parts: Vec<_> = origin.unmeasured.iter().map(names).collect();
        let parts = parts.join(" and ");
        line += &format!("; time {parts} was not recorded and counts as kernel time");
    }
    writeln!(out)?;
    write_title(&line, style, out)
}

/// Writes the line above each report: the time that it covers, which is unknown for a recording without events. `is_sum` is
/// true for the total of several intervals.
///
/// # Errors
/// When writing fails.
pub fn write_period(
    origin: &ReportOrigin,
    times_ns: Option<(u64, u64)>,
    is_sum: bool,
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some((start_ns, end_ns)) = times_ns else {
        write_title("no events; period unknown", style, out)?;
        return writeln!(out);
    };
    let length = duration(end_ns.saturating_sub(start_ns));
    let unix_ns = |time_ns| origin.wall_offset_ns?.checked_add(time_ns);
    let range = unix_ns(start_ns)
        .zip(unix_ns(end_ns))
        .and_then(|(start, end)| local_time::range(start, end));
    let prefix = if is_sum { "total: " } else { "" };
    let line = match range {
        Some(range) => format!("{prefix}{range} ({length})"),
        None => format!("{prefix}{length}"),
    };
    write_title(&line, style, out)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::SelectedBy;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_heading_names_host_kernel_recording_and_selection() {
        let mut origin = ReportOrigin::new(SelectedBy::default());
        let style = TextStyle::default();
        let heading =
            |origin: &ReportOrigin| written(|out| write_heading("VM exits", origin, style, out));
        assert_eq!(heading(&origin), "\n  VM exits\n");
        origin.header.host = Some("host1".into());
        origin.header.kernel = Some("6.12.57".into());
        origin.command = Some("sleep 1".into());
        origin.selection.vm = vec!["web-*".into(), "db-1".into()];
        origin.selection.pid = vec![7];
        assert_eq!(
            heading(&origin),
            "\n  VM exits of host1, Linux 6.12.57, while `sleep 1` ran; VM web-* or db-1; process 7\n"
        );
        origin.input = Some("k.data".into());
        assert!(heading(&origin).contains(", recorded in k.data"));
        origin.recording_selection.vcpu = vec!["0".into()];
        origin.recording_selection.event = vec!["kvm_exit".into(), "kvm_entry".into()];
        let text = ", recorded in k.data only for vCPU 0, event kvm_exit or kvm_entry, while";
        assert!(heading(&origin).contains(text), "{}", heading(&origin));
        origin.vcpus_from_thread_names = true;
        let text = "; process 7; vCPU numbers from thread names, as the events have none\n";
        assert!(heading(&origin).ends_with(text));
        origin.unmeasured = vec!["vmm_ns", "halted_ns"];
        let text = "; time in the VMM and halted was not recorded and counts as kernel time\n";
        assert!(heading(&origin).ends_with(text));
    }

    #[test]
    fn a_period_has_date_zone_and_length() {
        let mut origin = ReportOrigin::new(SelectedBy::default());
        let style = TextStyle::default();
        let write = |origin: &ReportOrigin, times_ns, is_sum| {
            written(|out| write_period(origin, times_ns, is_sum, style, out))
        };
        let times_ns = Some((1_000_000_000, 3_000_000_000));
        let period = |origin: &ReportOrigin, is_sum| write(origin, times_ns, is_sum);
        assert_eq!(period(&origin, false), "  2.000 s\n\n");
        origin.wall_offset_ns = Some(1_795_612_627_613_208_100);
        let text = period(&origin, true);
        assert!(text.starts_with("  total: 2026-11-2"), "{text}");
        assert!(text.ends_with(" (2.000 s)\n\n"), "{text}");
        let unknown = write(&origin, None, false);
        assert_eq!(unknown, "  no events; period unknown\n\n");
    }
}
