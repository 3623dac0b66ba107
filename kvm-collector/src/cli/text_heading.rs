//! The lines above text reports: a heading once, and the time of each report.

use std::io::{self, Write};

use crate::{
    format::text::{self, TextStyle},
    model::VMEXIT,
    session::ReportPeriod,
    view::ReportOrigin,
};

/// Returns what a report on exits, or with another `kind` on events, is about.
pub(super) fn what_is_counted(kind: &str) -> String {
    match kind {
        VMEXIT => "VM exits".to_owned(),
        kind => format!("events of kind {kind}"),
    }
}

/// Writes the lines above the reports of one command.
pub(super) struct TextHeading {
    /// What is reported, such as `VM exits`.
    what: String,
    has_intervals: bool,
    style: TextStyle,
    /// Whether a line that does not belong to the next report is above it.
    needs_blank_line: bool,
    is_written: bool,
}

impl TextHeading {
    pub(super) fn new(what: String, has_intervals: bool, style: TextStyle) -> Self {
        Self {
            what,
            has_intervals,
            style,
            needs_blank_line: false,
            is_written: false,
        }
    }

    /// Writes the heading, if it is not written yet, and the time that the next report covers, in ns of the clock of the
    /// events; `None` for a recording without events.
    pub(super) fn begin_report(
        &mut self,
        origin: &ReportOrigin,
        period: ReportPeriod,
        times_ns: Option<(u64, u64)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.write_once(origin, out)?;
        if std::mem::replace(&mut self.needs_blank_line, true) {
            writeln!(out)?;
        }
        let is_sum = self.has_intervals && period == ReportPeriod::Total;
        text::write_period(origin, times_ns, is_sum, self.style, out)
    }

    /// Begins a section of lines above the next report.
    pub(super) fn begin_section(
        &mut self,
        origin: &ReportOrigin,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.write_once(origin, out)?;
        self.needs_blank_line = true;
        writeln!(out)
    }

    fn write_once(&mut self, origin: &ReportOrigin, out: &mut impl Write) -> io::Result<()> {
        if std::mem::replace(&mut self.is_written, true) {
            return Ok(());
        }
        text::write_heading(&self.what, origin, self.style, out)?;
        text::write_inputs(&origin.inputs, self.style, out)
    }
}
