//! Printing events, or exits as a whole: of the running kernel, and of a recording.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{
    Due, Schedule,
    drain::RingRead,
    play,
    queue::{Message, Receiver, queue},
    stream::{StreamReader, joined, spawn_writer},
};
use crate::{
    host::clock,
    model::{Loss, StreamItem},
    source::{Live, OrderedStream, PlaybackOptions, Recording, RecordingSummary},
    timing::TimingError,
    tracefs::{EventName, Format},
    view::{Clock, ExitLineOptions, ExitLines, Filters, TraceFormat, TraceLines},
};

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
pub struct Printer {
    formats: Vec<Format>,
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

impl Printer {
    /// For events of these formats, in the order of their slots.
    ///
    /// # Errors
    /// When exits are requested and their events are not there.
    pub fn new(
        formats: Vec<Format>,
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
            names: formats.iter().map(Format::event_name).collect(),
            exits: options
                .exits
                .map(|it| ExitLines::new(&formats, it))
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
            return exits.take(item, is_shown, &self.formats, comm, &mut self.lines, out);
        }
        match item {
            StreamItem::Event(event) if is_shown => {
                self.lines.event(event, &self.formats, comm, out)
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
            exits.finish(&self.formats, &mut self.lines, out)?;
            summary.loss = loss.plus(&exits.loss());
            summary.in_progress = exits.in_progress();
        }
        summary.printed = self.lines.printed();
        out.flush()?;
        Ok(summary)
    }
}

/// Prints the running kernel's events until the schedule says that it is over. Events that wait to be written take
/// `queue_bytes` at most.
///
/// This thread reads the rings, and another one writes: see [`super::queue`].
///
/// # Errors
/// When the kernel cannot be read or the output not be written.
pub async fn live(
    live: &mut Live,
    schedule: &mut Schedule,
    printer: Printer,
    out: impl Write + Send + 'static,
    queue_bytes: usize,
) -> anyhow::Result<TraceSummary> {
    schedule.watch_threads(live.notices_fd()?)?;
    let selection = live.options().selection.after_kernel_filter();
    let is_by_name = selection.is_by_name();
    let (sender, receiver) = queue(queue_bytes);
    let writer = Writer {
        ordered: OrderedStream::new(&printer.formats, selection),
        printer,
        out,
        vm_names: HashMap::new(),
    };
    let mut reader = StreamReader::new(live, sender, true, is_by_name)?;
    let writing = spawn_writer(move || writer.run(&receiver))?;
    while !reader.is_ended() {
        tokio::select! {
            biased;
            due = schedule.next() => match due? {
                Due::End => break,
                Due::Threads => reader.learn_threads()?,
                Due::Refresh | Due::Interval => {
                    reader.refresh(false)?;
                }
            },
            () = reader.ready() => {}
        }
        reader.read()?;
    }
    let counts = reader.finish().await?;
    let mut writer = joined(writing)??;
    let Writer { printer, out, .. } = &mut writer;
    printer.lines.lost(&counts.events, counts.time_ns, out)?;
    let mut loss = counts.loss;
    loss.late = writer.ordered.late();
    loss.unattributed += writer.ordered.unattributed();
    Ok(writer.printer.finish(loss, &mut writer.out)?)
}

/// What the writing thread owns.
struct Writer<W> {
    ordered: OrderedStream,
    printer: Printer,
    out: W,
    /// Names of VMs by process, where events are selected by them.
    vm_names: HashMap<u32, String>,
}

impl<W: Write> Writer<W> {
    /// Prints all that comes through the queue.
    fn run(mut self, queue: &Receiver) -> io::Result<Self> {
        while let Some(message) = queue.next() {
            self.take(message)?;
            if queue.is_empty() {
                self.out.flush()?;
            }
        }
        self.release_until(u64::MAX)?;
        Ok(self)
    }

    fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Batch(queued) => {
                let RingRead { batch, losses } = queued.read;
                for (thread, name) in queued.names.threads {
                    self.ordered.set_thread_name(thread, name);
                }
                self.vm_names.extend(queued.names.vms);
                self.ordered.add(batch);
                for loss in losses {
                    self.ordered.add_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
                }
                self.release_until(queued.complete_until_ns)
            }
            Message::Tick(tick) => {
                if let Some((events, time_ns)) = &tick.counts {
                    self.printer.lines.set_wall_offset(clock::real_offset_ns());
                    self.printer.lines.lost(events, *time_ns, &mut self.out)?;
                }
                self.release_until(tick.complete_until_ns)
            }
        }
    }

    /// Prints the events up to a time, which can be put in order by now.
    fn release_until(&mut self, until_ns: u64) -> io::Result<()> {
        let (printer, out, names) = (&mut self.printer, &mut self.out, &self.vm_names);
        let vm_name = |tgid| names.get(&tgid).cloned();
        self.ordered
            .emit_until(until_ns, &vm_name, |item, comm| {
                printer.print(item, comm, out)
            })
    }
}

/// Prints a recording's events.
///
/// # Errors
/// When the recording cannot be read or the output not be written.
pub fn recorded(
    recording: Recording,
    options: &PlaybackOptions,
    shows_progress: bool,
    printer: &mut Printer,
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
