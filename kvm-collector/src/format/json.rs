//! JSON reports, one object per line. docs/json.md documents the fields.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    outside_text::write_json,
    view::{ReportOrigin, SlowExitRow, UtcTime},
};

/// Writes an object as one line of JSON.
///
/// # Errors
/// When writing fails.
pub fn write_line(object: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    write_json(object, &mut *out)?;
    out.write_all(b"\n")
}

/// What every report has in front of its own fields.
#[derive(Serialize)]
struct WithOrigin<'a, R> {
    #[serde(flatten)]
    origin: &'a ReportOrigin,
    period: &'static str,
    start: Option<String>,
    end: Option<String>,
    #[serde(flatten)]
    report: &'a R,
}

/// What every exit that is reported alone has in front of its own fields.
#[derive(Serialize)]
struct ExitWithOrigin<'a> {
    #[serde(flatten)]
    origin: &'a ReportOrigin,
    time: Option<UtcTime>,
    #[serde(flatten)]
    exit: &'a SlowExitRow,
}

/// Writes a slow exit as one line of JSON, with its origin and its start in UTC.
///
/// # Errors
/// When writing fails.
pub fn write_slow_exit(
    exit: &SlowExitRow,
    origin: &ReportOrigin,
    out: &mut impl Write,
) -> io::Result<()> {
    let time = origin.utc_time(exit.time_ns);
    write_line(&ExitWithOrigin { origin, time, exit }, out)
}

/// Writes a report as one line of JSON, with its origin and its start and end in UTC. `period` is `interval` or `total`.
/// `times_ns` are its start and end by the clock of the events; `None` for a recording without events.
///
/// # Errors
/// When writing fails.
pub fn write_report(
    report: &impl Serialize,
    origin: &ReportOrigin,
    period: &'static str,
    times_ns: Option<(u64, u64)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let report = WithOrigin {
        origin,
        period,
        start: times_ns.and_then(|(start_ns, _)| origin.utc(start_ns)),
        end: times_ns.and_then(|(_, end_ns)| origin.utc(end_ns)),
        report,
    };
    write_line(&report, out)
}
