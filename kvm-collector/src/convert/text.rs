//! Writes events or exits as lines of text or JSON, in the same format as `trace`.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    sink::{Gap, RecordingEnd, Sink},
    table::RowType,
};
use crate::{
    model::{Event, Loss, StreamItem},
    outside_text::{OutsideText, write_json},
    source::PlaybackContext,
    timing::TimingError,
    tracefs::Format,
    view::{
        ExitLineOptions, ExitLines, ItemNames, JsonLine, ReportOrigin, TraceClock, TraceFormat,
        TraceLines,
    },
};

/// The last line of an incomplete file in JSON.
#[derive(Serialize)]
struct MissingData<'a> {
    loss: Loss,
    /// Why the recording is incomplete.
    defect: Option<&'a str>,
}

/// A file with a line for each event or exit.
#[derive(Debug)]
pub struct Text<W> {
    lines: TraceLines,
    exit_lines: Option<ExitLines>,
    is_json: bool,
    out: W,
}

impl<W: Write> Text<W> {
    /// Writes lines to `out`. `formats` are those of the selected events, `origin` describes their host.
    ///
    /// # Errors
    /// If exits are requested, but the events or fields for timing them are missing.
    pub fn new(
        row_type: RowType,
        formats: &[Format],
        is_json: bool,
        origin: ReportOrigin,
        out: W,
    ) -> Result<Self, TimingError> {
        let format = if is_json {
            TraceFormat::Json
        } else {
            TraceFormat::Kernel
        };
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit: true,
            json: is_json,
            is_sampled: false,
        };
        Ok(Self {
            lines: TraceLines::new(formats.len(), format, TraceClock::Mono, false)
                .with_origin(origin.clone()),
            exit_lines: (row_type == RowType::Exits)
                .then(|| ExitLines::new(formats, options, origin))
                .transpose()?,
            is_json,
            out,
        })
    }
}

impl<W: Write> Sink for Text<W> {
    fn item(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        let Self {
            lines,
            exit_lines,
            out,
            ..
        } = self;
        if let Some(exit_lines) = exit_lines {
            with_names(item, context, |is_event, names| {
                exit_lines.add_item(item, is_event, formats, names, lines, out)
            })?;
        }
        match item {
            StreamItem::Event(event) if self.exit_lines.is_none() => {
                self.event(event, formats, context)
            }
            StreamItem::Event(_) => Ok(()),
            StreamItem::ThreadEnd { tid } => {
                self.lines.remove_thread(*tid);
                Ok(())
            }
            item => self.write_loss_as_gap(item, formats),
        }
    }

    fn exits_written(&self) -> Option<u64> {
        self.exit_lines.as_ref().map(|_| self.lines.printed())
    }

    fn skip_item(
        &mut self,
        item: &StreamItem<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        let Some(exit_lines) = &mut self.exit_lines else {
            return Ok(());
        };
        let lines = &mut self.lines;
        with_names(item, context, |is_event, names| {
            exit_lines.skip_item(item, is_event, formats, names, lines)
        })
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        context: &PlaybackContext<'_>,
    ) -> io::Result<()> {
        let Self { lines, out, .. } = self;
        with_names(&StreamItem::Event(*event), context, |_, names| {
            lines.write_event(event, formats, names, out)
        })
    }

    fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.lines
            .write_recorded_loss(gap.lost, gap.event, gap.time_ns, &mut self.out)
    }

    fn own_loss(&self) -> Loss {
        self.exit_lines
            .as_ref()
            .map_or_else(Loss::default, ExitLines::loss)
    }

    fn finish(&mut self, end: &RecordingEnd<'_>) -> io::Result<()> {
        let mut loss = *end.loss;
        if let Some(exit_lines) = &mut self.exit_lines {
            exit_lines.finish(&mut self.lines, &mut self.out)?;
            loss = loss.plus(&exit_lines.loss());
        }
        // Without loss, the output is the same as that of `trace`.
        if !loss.is_empty() {
            if self.is_json {
                let defect = end.defect;
                let line = JsonLine::new(MissingData { loss, defect });
                write_json(&line, &mut self.out)?;
                self.out.write_all(b"\n")?;
            } else {
                let defect = end.defect.map(|it| format!("; incomplete recording: {it}"));
                let defect = defect.unwrap_or_default();
                let entries = loss.entries().into_iter();
                let counts: Vec<_> = entries
                    .filter_map(|it| Some((it.name, it.count.filter(|count| *count > 0)?)))
                    .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
                    .collect();
                let defect = OutsideText::new(&defect);
                writeln!(self.out, "# total loss: {}{defect}", counts.join(", "))?;
            }
        }
        self.out.flush()
    }
}

/// Passes to `use_names` whether an item is an event, and the names at that time.
fn with_names<R>(
    item: &StreamItem<'_>,
    context: &PlaybackContext<'_>,
    use_names: impl FnOnce(bool, ItemNames<'_>) -> R,
) -> R {
    let (is_event, comm) = match item {
        StreamItem::Event(event) => (true, context.names.comm(event.thread())),
        _ => (false, ""),
    };
    let names = ItemNames {
        comm,
        vcpu: context.vcpu,
        vm_name: &|tgid| context.names.known_vm_name(tgid),
    };
    use_names(is_event, names)
}
