//! Prints events or exits of the running kernel or of a recording.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{
    Schedule, WakeReason,
    drain::RingRead,
    queue::{Message, Receiver, channel},
    read_recording,
    stream::{StreamReader, join_writer, spawn_writer},
};
use crate::{
    host::clock,
    model::{Loss, StreamItem, VmName},
    source::{Live, OrderedStream, PlaybackOptions, Recording, RecordingSummary},
    timing::TimingError,
    tracefs::{EventName, Format},
    view::{
        ExitLineOptions, ExitLines, Filters, ItemNames, ReportOrigin, ShorterExits, TraceClock,
        TraceFormat, TraceLines,
    },
};

/// How events are printed.
#[derive(Debug, Clone, Copy)]
pub struct PrintOptions {
    /// Line format.
    pub format: TraceFormat,
    /// Clock of the printed times.
    pub clock: TraceClock,
    /// Use colours.
    pub colored: bool,
    /// Print exits instead of single events.
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
    /// Number of events that do not match the filters.
    filtered: u64,
}

/// Number of printed lines, and losses.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceSummary {
    /// Number of printed events or exits.
    pub printed: u64,
    /// Lost events, and exits that could not be timed.
    pub loss: Loss,
    /// Exits in progress at the end of the stream. They are not printed.
    pub in_progress: u64,
    /// Number of events that do not match the filters.
    pub filtered: u64,
    /// Exits that are too short to be printed.
    pub shorter: ShorterExits,
}

impl Printer {
    /// Creates a printer for events of these formats, in the order of their slots, on the host that `origin`
    /// describes.
    ///
    /// # Errors
    /// When exits are requested but `kvm_exit` or `kvm_entry` is not among the formats.
    pub fn new(
        formats: Vec<Format>,
        options: PrintOptions,
        filters: Filters,
        origin: ReportOrigin,
    ) -> Result<Self, TimingError> {
        let lines = TraceLines::new(
            formats.len(),
            options.format,
            options.clock,
            options.colored,
        )
        .with_origin(origin.clone());
        Ok(Self {
            names: formats.iter().map(Format::event_name).collect(),
            exits: options
                .exits
                .map(|it| ExitLines::new(&formats, it, origin))
                .transpose()?,
            formats,
            lines,
            filters,
            filtered: 0,
        })
    }

    /// Times the exits in progress before the requested range of a recording. Prints nothing.
    fn skip(&mut self, item: &StreamItem<'_>, names: ItemNames<'_>) -> io::Result<()> {
        let Some(exits) = &mut self.exits else {
            return Ok(());
        };
        let is_shown = match item {
            StreamItem::Event(event) => self.filters.matches(event.slot, event.raw),
            _ => false,
        };
        exits.skip_item(item, is_shown, &self.formats, names, &mut self.lines)
    }

    fn print(
        &mut self,
        item: &StreamItem<'_>,
        names: ItemNames<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let is_shown = match item {
            StreamItem::Event(event) => {
                let matches = self.filters.matches(event.slot, event.raw);
                self.filtered += u64::from(!matches);
                matches
            }
            StreamItem::Lost {
                slot,
                count,
                time_ns,
                ..
            } if *count > 0 => {
                let event = slot.and_then(|slot| self.names.get(slot));
                self.lines
                    .write_recorded_loss(*count, event, *time_ns, out)?;
                false
            }
            _ => false,
        };
        if let Some(exits) = &mut self.exits {
            return exits.add_item(item, is_shown, &self.formats, names, &mut self.lines, out);
        }
        match item {
            StreamItem::Event(event) if is_shown => {
                self.lines.write_event(event, &self.formats, names, out)
            }
            StreamItem::ThreadEnd { tid } => {
                self.lines.remove_thread(*tid);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, loss: Loss, out: &mut impl Write) -> io::Result<TraceSummary> {
        let mut summary = TraceSummary {
            loss,
            filtered: self.filtered,
            ..TraceSummary::default()
        };
        if let Some(exits) = &mut self.exits {
            exits.finish(&mut self.lines, out)?;
            summary.loss = loss.plus(&exits.loss());
            summary.in_progress = exits.in_progress();
            summary.shorter = exits.shorter();
        }
        summary.printed = self.lines.printed();
        out.flush()?;
        Ok(summary)
    }
}

/// Prints events of the running kernel until the schedule ends. Queued events use at most `queue_bytes` of
/// memory. Also returns `out`, to complete it.
///
/// This thread reads the rings; another thread writes. See [`super::queue`].
///
/// # Errors
/// When the kernel cannot be read or the output cannot be written.
pub async fn live<W: Write + Send + 'static>(
    live: &mut Live,
    schedule: &mut Schedule,
    printer: Printer,
    out: W,
    queue_bytes: usize,
) -> anyhow::Result<(TraceSummary, W)> {
    schedule.watch_threads(live)?;
    let selection = live.options().selection.after_kernel_filter();
    let reads_vm_names = selection.is_by_name() || printer.lines.is_json();
    let (sender, receiver) = channel(queue_bytes);
    let mut ordered = OrderedStream::new(&printer.formats, selection);
    if printer.lines.is_json() {
        ordered.identify_vcpus();
    }
    let writer = Writer {
        ordered,
        printer,
        out,
        vm_names: HashMap::new(),
    };
    let mut reader = StreamReader::new(live, sender, true, reads_vm_names)?;
    let writing = spawn_writer(move || writer.run(&receiver))?;
    while !reader.is_closed() {
        tokio::select! {
            biased;
            reason = schedule.next() => match reason? {
                WakeReason::End => break,
                WakeReason::ThreadNotifications => reader.handle_notifications()?,
                WakeReason::Refresh | WakeReason::Interval => {
                    reader.refresh(false)?;
                }
            },
            () = reader.ready() => {}
        }
        reader.read()?;
    }
    let counts = reader.finish().await?;
    let mut writer = join_writer(writing)??;
    let Writer { printer, out, .. } = &mut writer;
    printer
        .lines
        .write_ring_losses(&counts.events, counts.time_ns, out)?;
    let mut loss = counts.loss;
    loss.late = writer.ordered.late();
    loss.unattributed += writer.ordered.unattributed();
    let summary = writer.printer.finish(loss, &mut writer.out)?;
    Ok((summary, writer.out))
}

/// State of the writing thread.
struct Writer<W> {
    ordered: OrderedStream,
    printer: Printer,
    out: W,
    /// VM names by process id. Empty unless events are selected by VM name or lines have it.
    vm_names: HashMap<u32, VmName>,
}

impl<W: Write> Writer<W> {
    /// Prints all events of the queue.
    fn run(mut self, queue: &Receiver) -> io::Result<Self> {
        // An output file appears with the first flush.
        self.out.flush()?;
        while let Some(message) = queue.receive() {
            self.handle_message(message)?;
            if queue.is_empty() {
                self.out.flush()?;
            }
        }
        self.release_until(u64::MAX)?;
        Ok(self)
    }

    fn handle_message(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Batch(queued) => {
                let RingRead { batch, losses } = queued.read;
                for (thread, name) in queued.names.threads {
                    self.ordered.set_thread_name(thread, name);
                }
                self.vm_names.extend(queued.names.vms);
                self.ordered.add(batch);
                for loss in losses {
                    self.ordered
                        .add_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
                }
                self.release_until(queued.complete_until_ns)
            }
            Message::Update(update) => {
                if let Some((events, time_ns)) = &update.counts {
                    let offset_ns = clock::real_offset_ns();
                    self.printer.lines.set_wall_offset(offset_ns);
                    if let Some(exits) = &mut self.printer.exits {
                        exits.set_wall_offset(offset_ns);
                    }
                    self.printer
                        .lines
                        .write_ring_losses(events, *time_ns, &mut self.out)?;
                }
                self.release_until(update.complete_until_ns)
            }
        }
    }

    /// Prints, in order, all events before a time.
    fn release_until(&mut self, until_ns: u64) -> io::Result<()> {
        let (printer, out, names) = (&mut self.printer, &mut self.out, &self.vm_names);
        let vm_name = |tgid| names.get(&tgid).cloned();
        self.ordered.emit_until(until_ns, &vm_name, |item, known| {
            let names = ItemNames {
                comm: known.comm,
                vcpu: known.vcpu,
                vm_name: &vm_name,
            };
            printer.print(item, names, out)
        })
    }
}

/// Prints events of a recording.
///
/// At the end of the recording, `check` can reject it.
///
/// # Errors
/// When the recording cannot be read or the output cannot be written.
pub fn recorded(
    mut recording: Recording,
    options: &PlaybackOptions,
    shows_progress: bool,
    printer: &mut Printer,
    out: &mut impl Write,
    check: impl FnOnce(&RecordingSummary) -> anyhow::Result<()>,
) -> anyhow::Result<TraceSummary> {
    if printer.lines.is_json() {
        recording.identify_vcpus();
    }
    let summary = read_recording(recording, options, shows_progress, |item, context| {
        let comm = match item {
            StreamItem::Event(event) => context.names.comm(event.thread()),
            _ => "",
        };
        let names = ItemNames {
            comm,
            vcpu: context.vcpu,
            vm_name: &|tgid| context.names.known_vm_name(tgid),
        };
        match context.is_before_range {
            true => printer.skip(item, names)?,
            false => printer.print(item, names, out)?,
        }
        Ok::<_, anyhow::Error>(())
    })?;
    check(&summary)?;
    Ok(printer.finish(summary.loss, out)?)
}
