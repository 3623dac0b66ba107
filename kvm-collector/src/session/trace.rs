//! Printing events, or exits as a whole: of the running kernel, and of a recording.

use std::io::{self, Write};

use anyhow::Context as _;

use super::{Due, Schedule, play};
use crate::{
    host::clock,
    model::{Loss, StreamItem},
    probe::Rings,
    source::{Live, Ordered, PlayOptions, Recording, RecordingSummary, WINDOW_NS},
    timing::TimingError,
    tracefs::{EventName, Format},
    view::{Clock, ExitLineOptions, ExitLines, Filters, TraceFormat, TraceLines},
};

/// Batches that are read at a time: on a busy host there are always more.
const MOST_BATCHES: usize = 8;

/// How events are printed.
#[derive(Debug, Clone, Copy)]
pub struct PrintOptions {
    /// How an event is written.
    pub format: TraceFormat,
    /// Which time a line shows.
    pub clock: Clock,
    /// With colours for a terminal.
    pub colored: bool,
    /// Only exits as a whole, and how.
    pub exits: Option<ExitLineOptions>,
}

/// Prints the items of a stream.
#[derive(Debug)]
pub struct Printer<'f> {
    formats: &'f [Format],
    names: Vec<EventName>,
    lines: TraceLines,
    exits: Option<ExitLines>,
    filters: Filters,
}

/// What was printed, and what is missing from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceSummary {
    /// Lines of events, or exits.
    pub printed: u64,
    /// What is missing.
    pub loss: Loss,
    /// Exits that had not ended when the stream did; they are not printed.
    pub in_progress: u64,
}

impl<'f> Printer<'f> {
    /// For events of these formats, in the order of their slots.
    ///
    /// # Errors
    /// When exits are requested and their events are not there.
    pub fn new(
        formats: &'f [Format],
        options: PrintOptions,
        filters: Filters,
    ) -> Result<Self, TimingError> {
        let lines = TraceLines::new(
            formats.len(),
            options.format,
            options.clock,
            options.colored,
        );
        Ok(Self {
            names: formats.iter().map(Format::event).collect(),
            exits: options
                .exits
                .map(|it| ExitLines::new(formats, it))
                .transpose()?,
            formats,
            lines,
            filters,
        })
    }

    fn print(&mut self, item: &StreamItem<'_>, comm: &str, out: &mut impl Write) -> io::Result<()> {
        let is_shown = match item {
            StreamItem::Event(event) => self.filters.pass(event.slot, event.raw),
            StreamItem::Lost {
                slot,
                count,
                time_ns,
                ..
            } if *count > 0 => {
                let event = slot.and_then(|slot| self.names.get(slot));
                self.lines.gap(*count, event, *time_ns, out)?;
                false
            }
            _ => false,
        };
        if let Some(exits) = &mut self.exits {
            return exits.take(item, is_shown, self.formats, comm, &mut self.lines, out);
        }
        match item {
            StreamItem::Event(event) if is_shown => {
                self.lines.event(event, self.formats, comm, out)
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, loss: Loss, out: &mut impl Write) -> io::Result<TraceSummary> {
        let mut summary = TraceSummary {
            loss,
            ..TraceSummary::default()
        };
        if let Some(exits) = &mut self.exits {
            exits.finish(self.formats, &mut self.lines, out)?;
            summary.loss = loss.plus(&exits.loss());
            summary.in_progress = exits.in_progress();
        }
        summary.printed = self.lines.printed();
        out.flush()?;
        Ok(summary)
    }
}

/// Prints the running kernel's events until the schedule says that it is over.
///
/// # Errors
/// When the kernel cannot be read or the output not be written.
pub async fn live(
    live: &mut Live,
    schedule: &mut Schedule,
    printer: &mut Printer<'_>,
    out: &mut impl Write,
) -> anyhow::Result<TraceSummary> {
    schedule.watch_threads(live.notices_fd()?)?;
    let mut rings = live.take_rings().context("nothing is shipped")?;
    let selection = live.options().selection.after_kernel_filter();
    let mut ordered = Ordered::new(printer.formats, selection);
    loop {
        tokio::select! {
            biased;
            due = schedule.next() => match due? {
                Due::End => break,
                Due::Threads => live.learn()?,
                Due::Refresh | Due::Interval => {
                    live.look_around()?;
                    printer.lines.set_wall_offset(clock::real_offset_ns());
                    printer.lines.lost(&live.events()?, clock::monotonic_ns(), out)?;
                }
            },
            () = rings.ready() => {}
        }
        let until_ns = clock::monotonic_ns().saturating_sub(WINDOW_NS);
        for _ in 0..MOST_BATCHES {
            let batch = rings.drain();
            if batch.is_empty() {
                break;
            }
            ordered.add(batch);
        }
        add_losses(&mut rings, &mut ordered);
        let vm_name = |tgid| live.vm_name(tgid);
        ordered.release_until(until_ns, &vm_name, |item, comm| {
            printer.print(item, comm, out)
        })?;
        out.flush()?;
    }
    live.end()?;
    loop {
        let batch = rings.drain();
        let is_last = batch.is_empty();
        ordered.add(batch);
        add_losses(&mut rings, &mut ordered);
        let until_ns = if is_last { u64::MAX } else { live.began_ns() };
        let vm_name = |tgid| live.vm_name(tgid);
        ordered.release_until(until_ns, &vm_name, |item, comm| {
            printer.print(item, comm, out)
        })?;
        if is_last {
            break;
        }
    }
    let counts = live.counts()?;
    printer.lines.lost(&counts.events, counts.time_ns, out)?;
    let mut loss = counts.loss;
    loss.late = ordered.late();
    loss.unattributed += ordered.unattributed();
    Ok(printer.finish(loss, out)?)
}

/// Marks where events were lost.
pub(super) fn add_losses(rings: &mut Rings, ordered: &mut Ordered) {
    for loss in rings.take_losses() {
        ordered.add_loss(loss.cpu, loss.from_ns, loss.to_ns);
    }
}

/// Prints a recording's events.
///
/// # Errors
/// When the recording cannot be read or the output not be written.
pub fn recorded(
    recording: Recording,
    options: &PlayOptions,
    shows_progress: bool,
    printer: &mut Printer<'_>,
    out: &mut impl Write,
) -> anyhow::Result<(TraceSummary, RecordingSummary)> {
    let summary = play(recording, options, shows_progress, |item, context| {
        let comm = match item {
            StreamItem::Event(event) => context.names.comm(event.thread()),
            _ => "",
        };
        Ok::<_, anyhow::Error>(printer.print(item, comm, out)?)
    })?;
    Ok((printer.finish(summary.loss, out)?, summary))
}
