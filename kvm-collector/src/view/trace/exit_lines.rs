//! Writes complete exits: the `kvm_exit`, the events within, and the `kvm_entry` that ends the exit.
//!
//! As in all other reports, [`Replay`] decides which entry ends an exit and how long the exit took.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{ItemNames, TraceLines, exit_buffer::ExitBuffer};
use crate::{
    model::{
        Event, Exit, ExitEnd, Loss, Segment, StreamItem, VcpuState,
        capacity::{MAX_EXIT_TEXT_BYTES, MAX_THREADS},
    },
    outside_text::OutsideText,
    timing::{Replay, ReplayOptions, TimingError, TimingRequest},
    tracefs::Format,
    view::{ExitRecords, ReportOrigin},
};
use kvm_ebpf_common::VCPU_UNKNOWN;

/// Maximum length of the text of one exit. Further events are counted but omitted, also when the text
/// of all exits in progress exceeds [`MAX_EXIT_TEXT_BYTES`].
const MAX_TEXT_BYTES: usize = 256 << 10;

/// Maximum number of buffers that are kept for other exits.
const MAX_SPARE_BUFFERS: usize = 1 << 10;

/// Which exits are written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitLineOptions {
    /// Minimum duration of the exits, in ns.
    pub min_ns: u64,
    /// Whether each exit is one line, instead of one line per event.
    pub per_exit: bool,
    /// Whether the format is JSON.
    pub json: bool,
    /// Whether the stream contains only a sample of the events, so that no exit has a duration.
    pub is_sampled: bool,
}

/// Exits below [`ExitLineOptions::min_ns`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShorterExits {
    /// Number of exits.
    pub count: u64,
    /// Duration of the longest of them.
    pub longest_ns: u64,
}

/// Collects the events of each thread's exit, and writes them when the exit ends.
#[derive(Debug)]
pub struct ExitLines {
    options: ExitLineOptions,
    replay: Replay,
    exit_slot: Option<usize>,
    entry_slot: Option<usize>,
    /// Exits in progress that may be written, by TID.
    threads: HashMap<u32, ExitBuffer>,
    /// Total length of the texts in `threads`.
    text_bytes: usize,
    /// Cleared buffers for other exits.
    spare: Vec<ExitBuffer>,
    records: ExitRecords,
    /// Empty between calls; kept for its memory.
    segments: Vec<Segment>,
    untimed: u64,
    in_progress: u64,
    /// Whether the exits that end are not written.
    is_muted: bool,
    shorter: ShorterExits,
    /// Losses found by the replay. It is set at the end of the stream.
    loss: Loss,
}

impl ExitLines {
    /// Creates a writer for the exits in a stream of events with these formats, on the host that `origin`
    /// describes.
    ///
    /// # Errors
    /// If `kvm_exit` or `kvm_entry` is not among them.
    pub fn new(
        formats: &[Format],
        options: ExitLineOptions,
        origin: ReportOrigin,
    ) -> Result<Self, TimingError> {
        let slot = |name: &str| formats.iter().position(|it| it.is_event("kvm", name));
        let timing = timing_request(formats, options);
        let mut replay = Replay::new(ReplayOptions {
            is_sampled: options.is_sampled,
            collects_totals: false,
            ..ReplayOptions::new(timing.clone(), formats)
        })?;
        replay.log_exits();
        Ok(Self {
            options,
            replay,
            exit_slot: slot("kvm_exit"),
            entry_slot: slot("kvm_entry"),
            threads: HashMap::new(),
            text_bytes: 0,
            spare: Vec::new(),
            records: ExitRecords::new(timing, origin),
            segments: Vec::new(),
            untimed: 0,
            in_progress: 0,
            is_muted: false,
            shorter: ShorterExits::default(),
            loss: Loss::default(),
        })
    }

    /// Returns the number of exits that are not written because they have no duration.
    #[cfg(feature = "test-api")]
    #[must_use]
    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    /// Returns the number of exits that were in progress at the end of the stream.
    #[must_use]
    pub fn in_progress(&self) -> u64 {
        self.in_progress
    }

    /// Returns the exits that are not written because they are too short.
    #[must_use]
    pub fn shorter(&self) -> ShorterExits {
        self.shorter
    }

    /// Updates the difference between the date and the clock of the events, in ns.
    pub fn set_wall_offset(&mut self, offset_ns: u64) {
        self.records.set_wall_offset(offset_ns);
    }

    /// Returns the losses that timing the exits has found. It is empty until
    /// [`ExitLines::finish`].
    #[must_use]
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Adds the next item of the stream, and writes the exit that it ends.
    ///
    /// An event with `is_shown` false is not written, but is still used to time exits. If a
    /// `kvm_exit` is not shown, the whole exit is not.
    ///
    /// # Errors
    /// When writing fails.
    pub fn add_item(
        &mut self,
        item: &StreamItem<'_>,
        is_shown: bool,
        formats: &[Format],
        names: ItemNames<'_>,
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let StreamItem::Event(event) = item else {
            self.replay.add_item(item);
            self.write_ended(names, lines, out)?;
            if let StreamItem::ThreadEnd { tid } = item {
                self.release(*tid);
                lines.remove_thread(*tid);
            }
            return Ok(());
        };
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let is_exit = Some(event.slot) == self.exit_slot;
        if !is_exit && is_shown {
            self.add_event(event, format, names, lines)?;
        }
        self.replay.add_item(item);
        self.write_ended(names, lines, out)?;
        if is_exit {
            self.start_exit(event, is_shown, format, names, lines)?;
        }
        Ok(())
    }

    /// Adds an item before the requested range of a recording: as [`ExitLines::add_item`], but exits
    /// that end are not written.
    ///
    /// # Errors
    /// When an event cannot be printed.
    pub fn skip_item(
        &mut self,
        item: &StreamItem<'_>,
        is_shown: bool,
        formats: &[Format],
        names: ItemNames<'_>,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        self.is_muted = true;
        let result = self.add_item(item, is_shown, formats, names, lines, &mut io::sink());
        self.is_muted = false;
        result
    }

    /// Ends the stream: counts the exits that are still in progress.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(&mut self, lines: &mut TraceLines, out: &mut impl Write) -> io::Result<()> {
        self.replay.finish_segments();
        self.loss = self.replay.read_exits(&mut |_| {}).loss;
        // Exits that are still in progress are not written, so no name is needed.
        let names = ItemNames {
            comm: "",
            vcpu: None,
            vm_name: &|_| None,
        };
        self.write_ended(names, lines, out)
    }

    /// Starts the buffer of an exit.
    fn start_exit(
        &mut self,
        event: &Event<'_>,
        is_shown: bool,
        format: &Format,
        names: ItemNames<'_>,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        self.release(event.tid);
        // The replay tracks no further threads either, and reports that as a loss.
        if !is_shown || self.threads.len() >= MAX_THREADS {
            return Ok(());
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.exit_ns = event.time_ns;
        buffer.events = 1;
        if !self.options.per_exit {
            lines.append_line(event, format, names, &mut buffer.text)?;
        } else if self.options.json {
            buffer.prefix.extend_from_slice(names.comm.as_bytes());
        } else {
            lines.append_prefix(event, "exit", names.comm, &mut buffer.prefix)?;
        }
        self.text_bytes += buffer.text.len();
        self.threads.insert(event.tid, buffer);
        Ok(())
    }

    /// Releases the buffer of a thread's exit, if it has one.
    fn release(&mut self, tid: u32) {
        let Some(mut buffer) = self.threads.remove(&tid) else {
            return;
        };
        self.text_bytes -= buffer.text.len();
        if self.spare.len() < MAX_SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Adds an event to the exit of its thread.
    fn add_event(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        names: ItemNames<'_>,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        let tid = event.subject.map_or(event.tid, |it| it.tid);
        let Some(buffer) = self.threads.get_mut(&tid) else {
            // The thread is not in an exit that is shown.
            return Ok(());
        };
        let is_entry = Some(event.slot) == self.entry_slot;
        let is_full = buffer.text.len() > MAX_TEXT_BYTES || self.text_bytes > MAX_EXIT_TEXT_BYTES;
        if is_full && !is_entry {
            buffer.omitted += 1;
            return Ok(());
        }
        buffer.events += 1;
        let before = buffer.text.len();
        if !self.options.per_exit {
            lines.append_line(event, format, names, &mut buffer.text)?;
        } else if !is_entry {
            buffer.append_event(event, format, self.options.json)?;
        }
        self.text_bytes += buffer.text.len().saturating_sub(before);
        Ok(())
    }

    /// Writes the exits that have ended.
    fn write_ended(
        &mut self,
        names: ItemNames<'_>,
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut segments = std::mem::take(&mut self.segments);
        segments.extend(self.replay.drain_segments());
        for segment in segments.drain(..) {
            let VcpuState::Exit(exit) = &segment.state else {
                continue;
            };
            match exit.end {
                _ if self.is_muted => {}
                ExitEnd::Entry => self.write_exit(&segment, exit, names, lines, out)?,
                ExitEnd::UnknownEnd => self.untimed += 1,
                ExitEnd::InProgress => self.in_progress += 1,
            }
            self.release(segment.vcpu_id.tid);
        }
        self.segments = segments;
        Ok(())
    }

    /// Writes an exit, unless it is too short.
    fn write_exit(
        &mut self,
        segment: &Segment,
        exit: &Exit,
        names: ItemNames<'_>,
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(buffer) = self.threads.get(&segment.vcpu_id.tid) else {
            return Ok(());
        };
        let duration_ns = segment.to_ns - segment.from_ns;
        if duration_ns < self.options.min_ns {
            self.shorter.count += 1;
            self.shorter.longest_ns = self.shorter.longest_ns.max(duration_ns);
            return Ok(());
        }
        if !self.options.per_exit {
            lines.add_printed(buffer.events);
            out.write_all(&buffer.text)?;
            if buffer.omitted > 0 {
                writeln!(
                    out,
                    "# omitted {} of this exit",
                    more_events(buffer.omitted)
                )?;
            }
            return Ok(());
        }
        lines.add_printed(1);
        if self.options.json {
            let vm = lines.vm_name(segment.vcpu_id.tgid, names);
            let comm = String::from_utf8_lossy(&buffer.prefix);
            let record = self.records.record(segment, exit, &comm, vm);
            return buffer.write_json(&record, out);
        }
        let (reason, _) = self.records.names().of_exit(exit);
        out.write_all(&buffer.prefix)?;
        match segment.vcpu_id.vcpu {
            VCPU_UNKNOWN => {}
            vcpu => write!(out, "vcpu {vcpu} ")?,
        }
        let (micros, nanos) = (duration_ns / 1000, duration_ns % 1000);
        let reason = OutsideText::new(&*reason.reason);
        write!(out, "{reason} {micros}.{nanos:03} us")?;
        out.write_all(&buffer.text)?;
        if buffer.omitted > 0 {
            write!(out, " | {}", more_events(buffer.omitted))?;
        }
        out.write_all(b"\n")
    }
}

fn more_events(number: u64) -> String {
    match number {
        1 => "1 more event".to_owned(),
        _ => format!("{number} more events"),
    }
}

/// Builds the request to time exits. JSON also has the causes of exits, and preempted time.
fn timing_request(formats: &[Format], options: ExitLineOptions) -> TimingRequest {
    if options.per_exit && options.json {
        TimingRequest::with_causes_from_formats(formats)
    } else {
        TimingRequest::from_formats(formats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{SelectedBy, TraceClock, TraceFormat};

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");
    const PIO: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_pio");
    const ENTRY: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_entry");

    /// Format index, TID and time in us of each event.
    const EVENTS: [(usize, u32, u64); 8] = [
        // An entry without an exit.
        (2, 8, 5),
        (0, 8, 10),
        (0, 9, 11),
        (1, 8, 12),
        (2, 9, 13),
        (2, 8, 30),
        // An event outside of any exit.
        (1, 8, 31),
        // An exit without an entry.
        (0, 8, 40),
    ];

    fn write_all_exits(options: ExitLineOptions) -> (String, u64) {
        let formats: Vec<_> = [EXIT, PIO, ENTRY]
            .iter()
            .map(|text| Format::parse("kvm", text).unwrap())
            .collect();
        let origin = ReportOrigin::new(SelectedBy::default());
        let mut exits = ExitLines::new(&formats, options, origin).unwrap();
        let names = ItemNames {
            comm: "vcpu",
            vcpu: Some(0),
            vm_name: &|_| Some("web-1".into()),
        };
        let mut lines = TraceLines::new(3, TraceFormat::Kernel, TraceClock::Mono, false);
        let mut out = Vec::new();
        for (slot, tid, us) in EVENTS {
            let format = &formats[slot];
            let mut raw = vec![0; format.fixed_size()];
            for (name, value) in [("isa", 2u32), ("exit_reason", 0x7b), ("port", 0x3f8)] {
                if let Some(field) = format.field(name) {
                    raw[field.offset..field.offset + 4].copy_from_slice(&value.to_ne_bytes());
                }
            }
            let event = Event {
                time_ns: us * 1000,
                cpu: 0,
                tgid: 7,
                tid,
                subject: None,
                named_vcpu: VCPU_UNKNOWN,
                slot,
                sample_weight: 0,
                raw: &raw,
            };
            let item = StreamItem::Event(event);
            exits
                .add_item(&item, true, &formats, names, &mut lines, &mut out)
                .unwrap();
        }
        exits.finish(&mut lines, &mut out).unwrap();
        assert_eq!(exits.in_progress(), 1);
        (String::from_utf8(out).unwrap(), lines.printed())
    }

    #[test]
    fn an_exit_is_one_line_with_its_events() {
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit: true,
            json: false,
            is_sampled: false,
        };
        let (text, count) = write_all_exits(options);
        assert_eq!(count, 2);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "            vcpu-9       [000]      0.000011: exit: vcpu 0 io 2.000 us",
                "            vcpu-8       [000]      0.000010: exit: vcpu 0 io 20.000 us \
                 | pio: pio_read at 0x3f8 size 0 count 0 val 0x0",
            ]
        );
    }

    #[test]
    fn exits_of_the_minimum_duration_are_written_with_all_their_events() {
        let options = ExitLineOptions {
            min_ns: 20_000,
            per_exit: false,
            json: false,
            is_sampled: false,
        };
        let (text, count) = write_all_exits(options);
        assert_eq!(count, 3);
        let events: Vec<_> = text
            .lines()
            .map(|line| line.split(": ").nth(1).unwrap())
            .collect();
        assert_eq!(events, ["kvm_exit", "kvm_pio", "kvm_entry"]);
        assert!(text.lines().all(|line| line.contains("vcpu-8 ")), "{text}");
    }

    #[test]
    fn an_exit_is_one_json_object() {
        let options = ExitLineOptions {
            min_ns: 20_000,
            per_exit: true,
            json: true,
            is_sampled: false,
        };
        let (text, _) = write_all_exits(options);
        let exit: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(exit["reason"], "io");
        assert_eq!(exit["duration_ns"], 20_000);
        assert_eq!(exit["inside"][0]["event"], "kvm:kvm_pio");
        assert_eq!(exit["inside"][0]["after_ns"], 2_000);
    }
}
