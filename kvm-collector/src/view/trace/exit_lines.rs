//! Exits as a whole: a `kvm_exit`, what happens in its thread, and the `kvm_entry` that ends it. Which entry ends
//! which exit, and how long that took, is decided by [`Replay`], as for all other reports.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};
use serde_json::json;

use super::TraceLines;
use crate::{
    model::{
        Event, Exit, ExitEnd, Loss, Segment, StreamItem, VcpuState,
        capacity::{MAX_EXIT_TEXT_BYTES, MAX_KEY_NAMES, MAX_THREADS},
    },
    timing::{TimingRequest, Replay, ReplayOptions, TimingError},
    tracefs::{Format, ReasonNames},
};

/// Text of one exit at most. Events beyond that, or beyond [`MOST_EXIT_TEXT_BYTES`] of all exits in progress, are left
/// out, and their number is written.
const MOST_BYTES: usize = 256 << 10;

/// Memory of a buffer that is used again for another exit.
const SPARE_BYTES: usize = 4 << 10;

/// Buffers that wait to be used again.
const MOST_SPARE: usize = 1 << 10;

/// Which exits are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitLineOptions {
    /// Only exits that took at least this long, in ns.
    pub min_ns: u64,
    /// One line per exit, instead of a line for each of its events.
    pub per_exit: bool,
    /// Write JSON.
    pub json: bool,
    /// The stream holds a sample of the events, so no exit has a time.
    pub is_sampled: bool,
}

/// Collects each thread's exit, and writes it when it ends.
#[derive(Debug)]
pub struct ExitLines {
    options: ExitLineOptions,
    replay: Replay,
    exit_slot: Option<usize>,
    entry_slot: Option<usize>,
    /// Of the threads whose exit is in progress and shown.
    threads: HashMap<u32, Buffer>,
    /// What their text takes, in bytes.
    text_bytes: usize,
    spare: Vec<Buffer>,
    names: HashMap<Key, Box<str>>,
    segments: Vec<Segment>,
    untimed: u64,
    in_progress: u64,
    /// What was found missing, once all is known.
    loss: Loss,
}

/// What happened in a thread's current exit; its memory is used again for another one.
#[derive(Debug, Default)]
struct Buffer {
    exit_ns: u64,
    events: u64,
    left_out: u64,
    /// Of a line per exit: what stands before the exit.
    prefix: Vec<u8>,
    /// Whole lines, or what happened inside.
    text: Vec<u8>,
}

impl ExitLines {
    /// Of the exits in a stream of events of these formats.
    ///
    /// # Errors
    /// When `kvm_exit` or `kvm_entry` are not among them.
    pub fn new(formats: &[Format], options: ExitLineOptions) -> Result<Self, TimingError> {
        let slot = |name: &str| formats.iter().position(|it| it.is_event("kvm", name));
        let mut replay = Replay::new(ReplayOptions {
            is_sampled: options.is_sampled,
            collects_totals: false,
            ..ReplayOptions::new(TimingRequest::from_formats(formats), formats)
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
            names: HashMap::new(),
            segments: Vec::new(),
            untimed: 0,
            in_progress: 0,
            loss: Loss::default(),
        })
    }

    #[cfg(feature = "test-api")]
    /// How many exits have no time, and are not shown for that.
    #[must_use]
    pub fn untimed(&self) -> u64 {
        self.untimed
    }

    /// How many exits were in progress at the end.
    #[must_use]
    pub fn in_progress(&self) -> u64 {
        self.in_progress
    }

    /// What was found missing when the exits were timed, as known at the end.
    #[must_use]
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Takes the next item, and writes the exit that ends with it. An event that is not to be shown still counts for
    /// the times; of a `kvm_exit` that is not shown, nothing is.
    ///
    /// # Errors
    /// When writing fails.
    pub fn take(
        &mut self,
        item: &StreamItem<'_>,
        is_shown: bool,
        formats: &[Format],
        comm: &str,
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let StreamItem::Event(event) = item else {
            self.replay.add_item(item);
            self.write_ended(formats, lines, out)?;
            if let StreamItem::ThreadEnd { tid } = item {
                self.release(*tid);
            }
            return Ok(());
        };
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let is_exit = Some(event.slot) == self.exit_slot;
        if !is_exit && is_shown {
            self.add(event, format, comm, lines)?;
        }
        self.replay.add_item(item);
        self.write_ended(formats, lines, out)?;
        if is_exit {
            self.begin(event, is_shown, format, comm, lines)?;
        }
        Ok(())
    }

    /// The stream has ended: counts what is still in progress.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(
        &mut self,
        formats: &[Format],
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        self.replay.finish_segments();
        self.loss = self.replay.read_exits(&mut |_| {}).loss;
        self.write_ended(formats, lines, out)
    }

    fn begin(
        &mut self,
        event: &Event<'_>,
        is_shown: bool,
        format: &Format,
        comm: &str,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        self.release(event.tid);
        // The replay has no room for more threads either, and has counted it.
        if !is_shown || self.threads.len() >= MAX_THREADS {
            return Ok(());
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.exit_ns = event.time_ns;
        buffer.events = 1;
        if !self.options.per_exit {
            lines.line(event, format, comm, &mut buffer.text)?;
        } else if self.options.json {
            buffer.prefix.extend_from_slice(comm.as_bytes());
        } else {
            lines.prefix(event, "exit", comm, &mut buffer.prefix)?;
        }
        self.text_bytes += buffer.text.len();
        self.threads.insert(event.tid, buffer);
        Ok(())
    }

    /// An exit of a thread, if there is one, is not in progress any more.
    fn release(&mut self, tid: u32) {
        let Some(mut buffer) = self.threads.remove(&tid) else {
            return;
        };
        self.text_bytes -= buffer.text.len();
        if self.spare.len() < MOST_SPARE {
            buffer.left_out = 0;
            for text in [&mut buffer.text, &mut buffer.prefix] {
                text.clear();
                text.shrink_to(SPARE_BYTES);
            }
            self.spare.push(buffer);
        }
    }

    /// Adds what happened inside an exit.
    fn add(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        comm: &str,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        let tid = event.subject.map_or(event.tid, |it| it.tid);
        let Some(buffer) = self.threads.get_mut(&tid) else {
            // Not in an exit: of no interest here.
            return Ok(());
        };
        let is_entry = Some(event.slot) == self.entry_slot;
        let is_full =
            buffer.text.len() > MOST_BYTES || self.text_bytes > MAX_EXIT_TEXT_BYTES;
        if is_full && !is_entry {
            buffer.left_out += 1;
            return Ok(());
        }
        buffer.events += 1;
        let before = buffer.text.len();
        if !self.options.per_exit {
            lines.line(event, format, comm, &mut buffer.text)?;
        } else if !is_entry {
            inside(buffer, event, format, self.options.json)?;
        }
        self.text_bytes += buffer.text.len().saturating_sub(before);
        Ok(())
    }

    /// Writes the exits that have ended.
    fn write_ended(
        &mut self,
        formats: &[Format],
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
                ExitEnd::Entry => self.write(&segment, exit, formats, lines, out)?,
                ExitEnd::UnknownEnd => self.untimed += 1,
                ExitEnd::InProgress => self.in_progress += 1,
            }
            self.release(segment.vcpu_id.tid);
        }
        self.segments = segments;
        Ok(())
    }

    fn write(
        &mut self,
        segment: &Segment,
        exit: &Exit,
        formats: &[Format],
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(buffer) = self.threads.get(&segment.vcpu_id.tid) else {
            return Ok(());
        };
        let duration_ns = segment.to_ns - segment.from_ns;
        if duration_ns < self.options.min_ns {
            return Ok(());
        }
        if !self.options.per_exit {
            lines.count(buffer.events);
            out.write_all(&buffer.text)?;
            if buffer.left_out > 0 {
                writeln!(
                    out,
                    "# left out {} more events of this exit",
                    buffer.left_out
                )?;
            }
            return Ok(());
        }
        lines.count(1);
        let code = u32::try_from(exit.key.code).unwrap_or(u32::MAX);
        if self.names.len() >= MAX_KEY_NAMES {
            self.names.clear();
        }
        let reason = self.names.entry(exit.key).or_insert_with(|| {
            let format = self.exit_slot.and_then(|slot| formats.get(slot));
            ReasonNames::new(format).name(exit.key.class, code).into()
        });
        let vcpu = Some(segment.vcpu_id.vcpu).filter(|it| *it != VCPU_UNKNOWN);
        if self.options.json {
            return write_json(buffer, segment, exit, reason, vcpu, out);
        }
        out.write_all(&buffer.prefix)?;
        if let Some(vcpu) = vcpu {
            write!(out, "vcpu {vcpu} ")?;
        }
        let (micros, nanos) = (duration_ns / 1000, duration_ns % 1000);
        write!(out, "{reason} {micros}.{nanos:03} us")?;
        out.write_all(&buffer.text)?;
        if buffer.left_out > 0 {
            write!(out, " | {} more events", buffer.left_out)?;
        }
        out.write_all(b"\n")
    }
}

/// Notes what happened inside an exit.
fn inside(buffer: &mut Buffer, event: &Event<'_>, format: &Format, json: bool) -> io::Result<()> {
    if !json {
        let name = format.name.strip_prefix("kvm_").unwrap_or(&format.name);
        write!(buffer.text, " | {name}: ")?;
        format.print(event.raw, &mut buffer.text);
        while buffer.text.last() == Some(&b' ') {
            buffer.text.pop();
        }
        return Ok(());
    }
    let mut text = Vec::new();
    format.print(event.raw, &mut text);
    let object = json!({
        "event": format.name,
        "after_ns": event.time_ns.saturating_sub(buffer.exit_ns),
        "text": String::from_utf8_lossy(&text),
    });
    if !buffer.text.is_empty() {
        buffer.text.push(b',');
    }
    serde_json::to_writer(&mut buffer.text, &object)?;
    Ok(())
}

fn write_json(
    buffer: &Buffer,
    segment: &Segment,
    exit: &Exit,
    reason: &str,
    vcpu: Option<u32>,
    out: &mut impl Write,
) -> io::Result<()> {
    let object = json!({
        "time_ns": buffer.exit_ns, "duration_ns": segment.to_ns - segment.from_ns, "cpu": segment.cpu,
        "pid": segment.vcpu_id.tgid, "tid": segment.vcpu_id.tid,
        "comm": String::from_utf8_lossy(&buffer.prefix), "vcpu": vcpu,
        "reason": reason, "reason_code": exit.key.code, "isa": exit.key.class, "left_out": buffer.left_out,
    });
    let object = object.to_string();
    // The events inside are JSON already.
    let open = object.strip_suffix('}').unwrap_or(&object);
    out.write_all(open.as_bytes())?;
    out.write_all(b",\"inside\":[")?;
    out.write_all(&buffer.text)?;
    out.write_all(b"]}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Clock, TraceFormat};

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");
    const PIO: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_pio");
    const ENTRY: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_entry");

    /// Slot, thread and time in us of each event, in order.
    const EVENTS: [(usize, u32, u64); 8] = [
        // An entry whose exit was not seen.
        (2, 8, 5),
        (0, 8, 10),
        (0, 9, 11),
        (1, 8, 12),
        (2, 9, 13),
        (2, 8, 30),
        // Outside of any exit.
        (1, 8, 31),
        // An exit that is not entered from.
        (0, 8, 40),
    ];

    fn written(options: ExitLineOptions) -> (String, u64) {
        let formats: Vec<_> = [EXIT, PIO, ENTRY]
            .iter()
            .map(|text| Format::parse("kvm", text).unwrap())
            .collect();
        let mut exits = ExitLines::new(&formats, options).unwrap();
        let mut lines = TraceLines::new(3, TraceFormat::Kernel, Clock::Mono, false);
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
                slot,
                sample_weight: 0,
                raw: &raw,
            };
            let item = StreamItem::Event(event);
            exits
                .take(&item, true, &formats, "vcpu", &mut lines, &mut out)
                .unwrap();
        }
        exits.finish(&formats, &mut lines, &mut out).unwrap();
        assert_eq!(exits.in_progress(), 1);
        (String::from_utf8(out).unwrap(), lines.printed())
    }

    #[test]
    fn an_exit_is_a_line_with_what_happened_inside() {
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit: true,
            json: false,
            is_sampled: false,
        };
        let (text, count) = written(options);
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
    fn only_exits_long_enough_are_shown_with_all_their_events() {
        let options = ExitLineOptions {
            min_ns: 20_000,
            per_exit: false,
            json: false,
            is_sampled: false,
        };
        let (text, count) = written(options);
        assert_eq!(count, 3);
        let events: Vec<_> = text
            .lines()
            .map(|line| line.split(": ").nth(1).unwrap())
            .collect();
        assert_eq!(events, ["kvm_exit", "kvm_pio", "kvm_entry"]);
        assert!(text.lines().all(|line| line.contains("vcpu-8 ")), "{text}");
    }

    #[test]
    fn json_has_the_same() {
        let options = ExitLineOptions {
            min_ns: 20_000,
            per_exit: true,
            json: true,
            is_sampled: false,
        };
        let (text, _) = written(options);
        let exit: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(exit["reason"], "io");
        assert_eq!(exit["duration_ns"], 20_000);
        assert_eq!(exit["inside"][0]["event"], "kvm_pio");
        assert_eq!(exit["inside"][0]["after_ns"], 2_000);
    }
}
