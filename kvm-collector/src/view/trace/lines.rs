//! `trace`: a line an event, in trace_pipe's shape.

use std::{
    cell::RefCell,
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use serde::{
    Serialize,
    ser::{SerializeMap as _, Serializer as _},
};

use super::columns;
use crate::{
    model::{Event, EventCount},
    tracefs::{EventName, Field, FieldKind, Format},
};

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// As the kernel would print them.
    Kernel,
    /// `name=value` of each field.
    Fields,
    /// One JSON object per line.
    Json,
}

/// Which time a line shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Seconds of `CLOCK_MONOTONIC`, as ftrace's `mono` clock.
    Mono,
    /// Date and time of day, UTC; `offset_ns` is what to add to `CLOCK_MONOTONIC`.
    Wall {
        /// The real time's distance from the monotonic, in ns.
        offset_ns: u64,
    },
    /// Seconds since the line before.
    Delta,
}

/// Writes events as lines. What it needs per event it keeps, so that an event allocates nothing.
#[derive(Debug)]
pub struct TraceLines {
    format: TraceFormat,
    color: bool,
    clock: Clock,
    line: Vec<u8>,
    /// Room for a value's name.
    name: RefCell<Vec<u8>>,
    /// Time of the line before.
    last_ns: Option<u64>,
    printed: u64,
    /// Per slot, how many were reported as lost.
    lost: Vec<u64>,
}

impl TraceLines {
    /// Lines of so many different events.
    #[must_use]
    pub fn new(events: usize, format: TraceFormat, clock: Clock, color: bool) -> Self {
        Self {
            format,
            color,
            clock,
            last_ns: None,
            line: Vec::with_capacity(512),
            name: RefCell::new(Vec::with_capacity(64)),
            printed: 0,
            lost: vec![0; events],
        }
    }

    /// How many events were written.
    #[must_use]
    pub fn printed(&self) -> u64 {
        self.printed
    }

    /// Changes the offset of the real time, as somebody may have set the clock. Other clocks have none.
    pub fn set_wall_offset(&mut self, new_ns: u64) {
        if let Clock::Wall { offset_ns } = &mut self.clock {
            *offset_ns = new_ns;
        }
    }

    /// Counts lines that were written elsewhere.
    pub(super) fn count(&mut self, lines: u64) {
        self.printed += lines;
    }

    /// Writes one event, of the format its slot has; `comm` is its thread's name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        comm: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        self.line(event, format, comm, &mut line)?;
        self.printed += 1;
        out.write_all(&line)?;
        self.line = line;
        Ok(())
    }

    /// Appends an event's line.
    pub(super) fn line(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        comm: &str,
        line: &mut Vec<u8>,
    ) -> io::Result<()> {
        match self.format {
            TraceFormat::Json => json(event, format, comm, &self.name, line)?,
            TraceFormat::Kernel => {
                self.prefix(event, &format.name, comm, line)?;
                format.print(event.raw, line);
            }
            TraceFormat::Fields => {
                self.prefix(event, &format.name, comm, line)?;
                format.print_fields(event.raw, line);
            }
        }
        line.push(b'\n');
        Ok(())
    }

    /// Appends `           CPU 0/KVM-5664    [000] 11906.220178: kvm_entry: `.
    pub(super) fn prefix(
        &mut self,
        event: &Event<'_>,
        name: &str,
        comm: &str,
        line: &mut Vec<u8>,
    ) -> io::Result<()> {
        columns::text(line, comm, 16);
        line.push(b'-');
        let tid_start = line.len();
        columns::number(line, u64::from(event.tid), 0, b' ');
        line.resize(line.len().max(tid_start + 7), b' ');
        line.extend_from_slice(b" [");
        columns::number(line, u64::from(event.cpu), 3, b'0');
        line.extend_from_slice(b"] ");
        let time_ns = event.time_ns;
        match self.clock {
            Clock::Mono => columns::seconds(line, time_ns),
            Clock::Delta => {
                let before = self.last_ns.replace(time_ns).unwrap_or(time_ns);
                columns::seconds(line, time_ns.saturating_sub(before));
            }
            Clock::Wall { offset_ns } => {
                let since_epoch = Duration::from_nanos(time_ns.saturating_add(offset_ns));
                let time = UNIX_EPOCH + since_epoch;
                write!(line, "{}", humantime::format_rfc3339_micros(time))?;
            }
        }
        let (on, off) = if self.color {
            (color_of(name), "\x1b[0m")
        } else {
            ("", "")
        };
        for part in [": ", on, name, off, ": "] {
            line.extend_from_slice(part.as_bytes());
        }
        Ok(())
    }

    /// Writes a line for each event that has lost any since the last time; `time_ns` is now.
    ///
    /// # Errors
    /// When writing fails.
    pub fn lost(
        &mut self,
        events: &[EventCount],
        time_ns: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for (event, reported) in events.iter().zip(&mut self.lost) {
            let lost = event.lost.saturating_sub(*reported);
            if lost == 0 {
                continue;
            }
            *reported = event.lost;
            let why = "its CPU's ring was full (--ring makes it larger)";
            write_gap(self.format, lost, Some(&event.event), time_ns, why, out)?;
        }
        Ok(())
    }

    /// Writes a line for events that were lost when they were recorded, before `time_ns`: of one event, if it is known
    /// of which.
    ///
    /// # Errors
    /// When writing fails.
    pub fn gap(
        &mut self,
        lost: u64,
        event: Option<&EventName>,
        time_ns: u64,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let why = "they did not fit into the buffer when this was recorded";
        write_gap(self.format, lost, event, time_ns, why, out)
    }
}

fn write_gap(
    format: TraceFormat,
    lost: u64,
    event: Option<&EventName>,
    time_ns: u64,
    why: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    if format == TraceFormat::Json {
        let event = event.map(ToString::to_string);
        let line = serde_json::json!({ "lost": lost, "event": event, "time_ns": time_ns });
        return writeln!(out, "{line}");
    }
    let event = event.map_or_else(|| "events".to_owned(), ToString::to_string);
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    writeln!(
        out,
        "# lost {lost} {event} before {seconds}.{micros:06}: {why}"
    )
}

/// By kind: out of the guest, into it, out to the VMM, memory, interrupts, and the rest.
fn color_of(event: &str) -> &'static str {
    match event {
        "exit" | "kvm_exit" | "kvm_nested_vmexit" => "\x1b[33m",
        "kvm_entry" => "\x1b[32m",
        "kvm_userspace_exit" => "\x1b[35m",
        _ if event.contains("fault") || event.contains("mmu") || event.contains("mmio") => {
            "\x1b[34m"
        }
        _ if event.contains("irq") || event.contains("apic") || event.contains("eoi") => "\x1b[36m",
        _ => "\x1b[1m",
    }
}

fn json(
    event: &Event<'_>,
    format: &Format,
    comm: &str,
    name: &RefCell<Vec<u8>>,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    let mut json = serde_json::Serializer::new(line);
    let mut object = json.serialize_map(None)?;
    object.serialize_entry("time_ns", &event.time_ns)?;
    object.serialize_entry("cpu", &event.cpu)?;
    object.serialize_entry("pid", &event.tgid)?;
    object.serialize_entry("tid", &event.tid)?;
    object.serialize_entry("comm", comm)?;
    object.serialize_entry("system", &format.system)?;
    object.serialize_entry("event", &format.name)?;
    object.serialize_entry(
        "fields",
        &Fields {
            raw: event.raw,
            format,
            name,
        },
    )?;
    object.end()?;
    Ok(())
}

/// Appends the fields of an event's record as JSON, as they are in the lines; `name` is room for values' names.
///
/// # Errors
/// None: what is written to is memory.
pub fn write_fields(
    raw: &[u8],
    format: &Format,
    name: &RefCell<Vec<u8>>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut json = serde_json::Serializer::new(out);
    Ok(Fields { raw, format, name }.serialize(&mut json)?)
}

/// An event's fields as a JSON object: numbers as numbers, text as text, arrays of bytes as arrays. A
/// field whose values have names is an object with `value` and `name`.
struct Fields<'a> {
    raw: &'a [u8],
    format: &'a Format,
    /// Room for a value's name.
    name: &'a RefCell<Vec<u8>>,
}

impl Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let name = &mut *self.name.borrow_mut();
        for field in &self.format.fields {
            let value = Value {
                raw: self.raw,
                field,
            };
            if !self.format.has_names_for(field) {
                map.serialize_entry(&field.name, &value)?;
                continue;
            }
            name.clear();
            self.format.append_value_names(field, self.raw, name);
            let name = std::str::from_utf8(name)
                .ok()
                .filter(|name| !name.is_empty());
            map.serialize_entry(&field.name, &Named { value, name })?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Named<'a> {
    value: Value<'a>,
    name: Option<&'a str>,
}

struct Value<'a> {
    raw: &'a [u8],
    field: &'a Field,
}

impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { raw, field } = self;
        match field.kind {
            FieldKind::Bool => field.read_u64(raw).map(|it| it != 0).serialize(serializer),
            FieldKind::Integer if field.signed => field.read_i64(raw).serialize(serializer),
            FieldKind::Integer | FieldKind::Pointer => field.read_u64(raw).serialize(serializer),
            FieldKind::Chars => {
                let text = field
                    .bytes(raw)
                    .and_then(|bytes| bytes.split(|it| *it == 0).next());
                text.map(String::from_utf8_lossy).serialize(serializer)
            }
            _ => field.bytes(raw).serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    fn lines(format: TraceFormat, clock: Clock, reason: u32) -> String {
        let formats = vec![Format::parse("kvm", EXIT).unwrap()];
        let mut raw = vec![0; formats[0].fixed_size()];
        for (name, value) in [("isa", 2), ("exit_reason", reason), ("vcpu_id", 3)] {
            let at = formats[0].field(name).unwrap().offset;
            raw[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let event = Event {
            time_ns: 12_345_678_901,
            cpu: 1,
            tgid: 7,
            tid: 8,
            subject: None,
            slot: 0,
            sample_weight: 0,
            raw: &raw,
        };
        let mut lines = TraceLines::new(1, format, clock, false);
        let mut out = Vec::new();
        lines
            .event(&event, &formats, "CPU 3/KVM", &mut out)
            .unwrap();
        assert_eq!(lines.printed(), 1);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_laid_out_as_trace_pipes() {
        assert_eq!(
            lines(TraceFormat::Kernel, Clock::Mono, 0x400),
            "       CPU 3/KVM-8       [001]     12.345678: kvm_exit: vcpu 3 reason npf rip 0x0 info1 \
             0x0000000000000000 info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000\n"
        );
    }

    #[test]
    fn times_are_of_the_clock_asked_for() {
        let line = lines(
            TraceFormat::Kernel,
            Clock::Wall {
                offset_ns: 1_000_000_000_000_000_000,
            },
            0,
        );
        assert!(
            line.contains("] 2001-09-09T01:46:52.345678Z: kvm_exit"),
            "{line}"
        );
        let mut lines_of_day = TraceLines::new(0, TraceFormat::Kernel, Clock::Mono, false);
        lines_of_day.set_wall_offset(5);
        assert_eq!(lines_of_day.clock, Clock::Mono);
        lines_of_day.clock = Clock::Wall { offset_ns: 1 };
        lines_of_day.set_wall_offset(5);
        assert_eq!(lines_of_day.clock, Clock::Wall { offset_ns: 5 });
        let line = lines(TraceFormat::Kernel, Clock::Delta, 0);
        assert!(line.contains("]      0.000000: kvm_exit"), "{line}");
    }

    #[test]
    fn fields_have_values_and_names() {
        let line = lines(TraceFormat::Fields, Clock::Mono, 0x400);
        assert!(line.contains(" exit_reason=1024(npf) "), "{line}");
        let json: serde_json::Value =
            serde_json::from_str(&lines(TraceFormat::Json, Clock::Mono, 0x400)).unwrap();
        assert_eq!(json["fields"]["exit_reason"]["value"], 0x400);
        assert_eq!(json["fields"]["exit_reason"]["name"], "npf");
        assert_eq!(json["fields"]["vcpu_id"], 3);
        assert_eq!(json["time_ns"], 12_345_678_901u64);
    }

    #[test]
    fn a_value_without_a_name_is_still_an_object() {
        let json: serde_json::Value =
            serde_json::from_str(&lines(TraceFormat::Json, Clock::Mono, 0x7777)).unwrap();
        assert_eq!(json["fields"]["exit_reason"]["value"], 0x7777);
        assert!(json["fields"]["exit_reason"]["name"].is_null());
    }
}
