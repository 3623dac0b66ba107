//! Lines, as `trace` writes them.

use std::io::{self, Write};

use super::{Columns, End, Gap, Sink};
use crate::{
    model::Event,
    source::Names,
    tracefs::Format,
    view::{Clock, SpanOptions, Spans, TraceFormat, TraceLines},
};

/// Writes lines, of events or of exits.
#[derive(Debug)]
pub struct Text<W> {
    lines: TraceLines,
    spans: Option<Spans>,
    json: bool,
    out: W,
}

impl<W: Write> Text<W> {
    /// Of events of these formats, as text or as JSON.
    pub fn new(columns: Columns, formats: &[Format], json: bool, out: W) -> Self {
        let format = if json {
            TraceFormat::Json
        } else {
            TraceFormat::Kernel
        };
        let options = SpanOptions {
            min_ns: 0,
            per_exit: true,
            json,
        };
        Self {
            lines: TraceLines::new(formats.len(), format, Clock::Mono, false),
            spans: (columns == Columns::Exits).then(|| Spans::new(formats, options)),
            json,
            out,
        }
    }
}

impl<W: Write> Sink for Text<W> {
    fn event(&mut self, event: &Event<'_>, formats: &[Format], names: &Names) -> io::Result<()> {
        let comm = names.comm(event.tid);
        match &mut self.spans {
            Some(spans) => spans.event(event, formats, comm, &mut self.lines, &mut self.out),
            None => self.lines.event(event, formats, comm, &mut self.out),
        }
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.lines
            .gap(gap.lost, gap.event, gap.time_ns, &mut self.out)
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        // Only where something is missing: otherwise these are the lines of `trace`, and no more.
        if !end.loss.is_none() {
            if self.json {
                let line = serde_json::json!({ "loss": end.loss, "defect": end.defect });
                writeln!(self.out, "{line}")?;
            } else {
                let defect = end.defect.map(|it| format!("; only a part: {it}"));
                let (loss, defect) = (end.loss, defect.unwrap_or_default());
                let (lost, damaged) = (loss.lost, loss.damaged);
                writeln!(self.out, "# lost {lost} in all, damaged {damaged}{defect}")?;
            }
        }
        self.out.flush()
    }
}
