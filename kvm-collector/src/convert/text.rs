//! Lines, as `trace` writes them.

use std::io::{self, Write};

use super::{Columns, End, Gap, Sink};
use crate::{
    model::{Event, Loss, StreamItem},
    source::Names,
    timing::TimingError,
    tracefs::Format,
    view::{Clock, ExitLineOptions, ExitLines, TraceFormat, TraceLines},
};

/// Writes lines, of events or of exits.
#[derive(Debug)]
pub struct Text<W> {
    formats: Vec<Format>,
    lines: TraceLines,
    exits: Option<ExitLines>,
    json: bool,
    out: W,
}

impl<W: Write> Text<W> {
    /// Of events of these formats, as text or as JSON.
    ///
    /// # Errors
    /// When exits are requested and their events are not there.
    pub fn new(
        columns: Columns,
        formats: &[Format],
        json: bool,
        out: W,
    ) -> Result<Self, TimingError> {
        let format = if json {
            TraceFormat::Json
        } else {
            TraceFormat::Kernel
        };
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit: true,
            json,
            is_sampled: false,
        };
        Ok(Self {
            formats: formats.to_vec(),
            lines: TraceLines::new(formats.len(), format, Clock::Mono, false),
            exits: (columns == Columns::Exits)
                .then(|| ExitLines::new(formats, options))
                .transpose()?,
            json,
            out,
        })
    }
}

impl<W: Write> Sink for Text<W> {
    fn item(&mut self, item: &StreamItem<'_>, formats: &[Format], names: &Names) -> io::Result<()> {
        let Self {
            lines, exits, out, ..
        } = self;
        if let Some(exits) = exits {
            let (is_event, comm) = match item {
                StreamItem::Event(event) => (true, names.comm(event.thread())),
                _ => (false, ""),
            };
            exits.take(item, is_event, formats, comm, lines, out)?;
        }
        match item {
            StreamItem::Event(event) if self.exits.is_none() => self.event(event, formats, names),
            StreamItem::Event(_) => Ok(()),
            item => self.lost(item, formats),
        }
    }

    fn event(&mut self, event: &Event<'_>, formats: &[Format], names: &Names) -> io::Result<()> {
        let comm = names.comm(event.thread());
        self.lines.event(event, formats, comm, &mut self.out)
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.lines
            .gap(gap.lost, gap.event, gap.time_ns, &mut self.out)
    }

    fn loss(&self) -> Loss {
        self.exits
            .as_ref()
            .map_or_else(Loss::default, ExitLines::loss)
    }

    fn finish(&mut self, end: &End<'_>) -> io::Result<()> {
        let mut loss = *end.loss;
        if let Some(exits) = &mut self.exits {
            exits.finish(&self.formats, &mut self.lines, &mut self.out)?;
            loss = loss.plus(&exits.loss());
        }
        // Only where something is missing: otherwise these are the lines of `trace`, and no more.
        if !loss.is_none() {
            if self.json {
                let line = serde_json::json!({ "loss": loss, "defect": end.defect });
                writeln!(self.out, "{line}")?;
            } else {
                let defect = end.defect.map(|it| format!("; only a part: {it}"));
                let defect = defect.unwrap_or_default();
                let entries = loss.entries().into_iter();
                let missing: Vec<_> = entries
                    .filter_map(|it| Some((it.name, it.count.filter(|count| *count > 0)?)))
                    .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
                    .collect();
                writeln!(self.out, "# in all: {}{defect}", missing.join(", "))?;
            }
        }
        self.out.flush()
    }
}
