//! Exits as spans: a `kvm_exit`, what happens in its thread, and the `kvm_entry` that ends it.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde_json::json;

use super::TraceLines;
use crate::{
    model::Event,
    tracefs::{Field, Format, ReasonNames},
};

/// What is kept of one exit at most; what happens beyond is left out, and said to be.
const MOST_BYTES: usize = 256 << 10;

/// What is done with exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanOptions {
    /// Only exits that took at least this long, in ns.
    pub min_ns: u64,
    /// One line per exit, instead of a line for each of its events.
    pub per_exit: bool,
    /// Write JSON.
    pub json: bool,
}

/// Collects each thread's exits, and writes those wanted when they end.
#[derive(Debug)]
pub struct Spans {
    options: SpanOptions,
    exit_slot: Option<usize>,
    entry_slot: Option<usize>,
    vcpu: Option<Field>,
    isa: Option<Field>,
    reason: Option<Field>,
    threads: HashMap<u32, Span>,
    names: HashMap<(u32, u32), Box<str>>,
    written: u64,
}

/// A thread's current exit; its memory is used again for the next.
#[derive(Debug, Default)]
struct Span {
    open: bool,
    exit_ns: u64,
    vcpu: Option<u64>,
    isa: u32,
    reason: u32,
    events: u64,
    left_out: u64,
    /// Of a line per exit: what stands before the exit.
    prefix: Vec<u8>,
    /// Whole lines, or what happened inside.
    text: Vec<u8>,
}

impl Spans {
    /// Exits among events of these formats.
    #[must_use]
    pub fn new(formats: &[Format], options: SpanOptions) -> Self {
        let slot = |name: &str| formats.iter().position(|it| it.is("kvm", name));
        let exit_slot = slot("kvm_exit");
        let exit = exit_slot.and_then(|slot| formats.get(slot));
        let (isa, reason) = ReasonNames::fields(exit);
        let field = |name: &str| exit.and_then(|exit| exit.field(name)).cloned();
        Self {
            options,
            exit_slot,
            entry_slot: slot("kvm_entry"),
            vcpu: field("vcpu_id"),
            isa: field(isa),
            reason: field(reason),
            threads: HashMap::new(),
            names: HashMap::new(),
            written: 0,
        }
    }

    /// How many exits were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes an event, in the order of time, and writes its exit if it ends one.
    ///
    /// # Errors
    /// When writing fails.
    pub fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        comm: &str,
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let slot = Some(event.slot);
        let Some(format) = formats.get(event.slot) else {
            return Ok(());
        };
        if slot == self.exit_slot {
            self.begin(event, format, comm, lines)?;
            return Ok(());
        }
        let Some(span) = self.threads.get_mut(&event.tid).filter(|span| span.open) else {
            // Not in an exit: of no interest here.
            return Ok(());
        };
        let entry = slot == self.entry_slot;
        if span.text.len() > MOST_BYTES && !entry {
            span.left_out += 1;
            return Ok(());
        }
        span.events += 1;
        if !self.options.per_exit {
            lines.line(event, format, comm, &mut span.text)?;
        } else if !entry {
            inside(span, event, format, self.options.json)?;
        }
        if entry {
            self.end(event, formats, lines, out)?;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        comm: &str,
        lines: &mut TraceLines,
    ) -> io::Result<()> {
        let number = |field: &Option<Field>| field.as_ref().and_then(|it| it.read_u64(event.raw));
        let code = |field| {
            number(field)
                .and_then(|it| u32::try_from(it).ok())
                .unwrap_or(0)
        };
        let span = self.threads.entry(event.tid).or_default();
        span.open = true;
        span.exit_ns = event.time_ns;
        span.vcpu = number(&self.vcpu);
        span.isa = code(&self.isa);
        span.reason = code(&self.reason);
        span.events = 1;
        span.left_out = 0;
        span.text.clear();
        span.prefix.clear();
        if !self.options.per_exit {
            lines.line(event, format, comm, &mut span.text)
        } else if self.options.json {
            span.prefix.extend_from_slice(comm.as_bytes());
            Ok(())
        } else {
            lines.prefix(event, "exit", comm, &mut span.prefix)
        }
    }

    fn end(
        &mut self,
        entry: &Event<'_>,
        formats: &[Format],
        lines: &mut TraceLines,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(span) = self.threads.get_mut(&entry.tid) else {
            return Ok(());
        };
        span.open = false;
        let duration_ns = entry.time_ns.saturating_sub(span.exit_ns);
        if duration_ns < self.options.min_ns {
            return Ok(());
        }
        self.written += 1;
        if !self.options.per_exit {
            lines.count(span.events);
            out.write_all(&span.text)?;
            if span.left_out > 0 {
                writeln!(out, "# left out {} more events of this exit", span.left_out)?;
            }
            return Ok(());
        }
        lines.count(1);
        let reason = self
            .names
            .entry((span.isa, span.reason))
            .or_insert_with(|| {
                let exit = self.exit_slot.and_then(|slot| formats.get(slot));
                ReasonNames::of(exit).name(span.isa, span.reason).into()
            });
        if self.options.json {
            return end_json(span, entry, reason, duration_ns, out);
        }
        out.write_all(&span.prefix)?;
        if let Some(vcpu) = span.vcpu {
            write!(out, "vcpu {vcpu} ")?;
        }
        let (micros, nanos) = (duration_ns / 1000, duration_ns % 1000);
        write!(out, "{reason} {micros}.{nanos:03} us")?;
        out.write_all(&span.text)?;
        if span.left_out > 0 {
            write!(out, " | {} more events", span.left_out)?;
        }
        out.write_all(b"\n")
    }
}

/// Notes what happened inside an exit.
fn inside(span: &mut Span, event: &Event<'_>, format: &Format, json: bool) -> io::Result<()> {
    if !json {
        let name = format.name.strip_prefix("kvm_").unwrap_or(&format.name);
        write!(span.text, " | {name}: ")?;
        format.print(event.raw, &mut span.text);
        while span.text.last() == Some(&b' ') {
            span.text.pop();
        }
        return Ok(());
    }
    let mut text = Vec::new();
    format.print(event.raw, &mut text);
    let object = json!({
        "event": format.name,
        "after_ns": event.time_ns.saturating_sub(span.exit_ns),
        "text": String::from_utf8_lossy(&text),
    });
    if !span.text.is_empty() {
        span.text.push(b',');
    }
    serde_json::to_writer(&mut span.text, &object)?;
    Ok(())
}

fn end_json(
    span: &Span,
    entry: &Event<'_>,
    reason: &str,
    duration_ns: u64,
    out: &mut impl Write,
) -> io::Result<()> {
    let exit = json!({
        "time_ns": span.exit_ns, "duration_ns": duration_ns, "cpu": entry.cpu,
        "pid": entry.tgid, "tid": entry.tid,
        "comm": String::from_utf8_lossy(&span.prefix), "vcpu": span.vcpu,
        "reason": reason, "reason_code": span.reason, "isa": span.isa, "left_out": span.left_out,
    });
    let exit = exit.to_string();
    // The events inside are JSON already.
    out.write_all(exit.trim_end_matches('}').as_bytes())?;
    out.write_all(b",\"inside\":[")?;
    out.write_all(&span.text)?;
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

    fn written(options: SpanOptions) -> (String, u64) {
        let formats: Vec<_> = [EXIT, PIO, ENTRY]
            .iter()
            .map(|text| Format::parse("kvm", text).unwrap())
            .collect();
        let mut spans = Spans::new(&formats, options);
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
                slot,
                raw: &raw,
            };
            spans
                .event(&event, &formats, "vcpu", &mut lines, &mut out)
                .unwrap();
        }
        (String::from_utf8(out).unwrap(), spans.written())
    }

    #[test]
    fn an_exit_is_a_line_with_what_happened_inside() {
        let options = SpanOptions {
            min_ns: 0,
            per_exit: true,
            json: false,
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
        let options = SpanOptions {
            min_ns: 20_000,
            per_exit: false,
            json: false,
        };
        let (text, count) = written(options);
        assert_eq!(count, 1);
        let events: Vec<_> = text
            .lines()
            .map(|line| line.split(": ").nth(1).unwrap())
            .collect();
        assert_eq!(events, ["kvm_exit", "kvm_pio", "kvm_entry"]);
        assert!(text.lines().all(|line| line.contains("vcpu-8 ")), "{text}");
    }

    #[test]
    fn json_has_the_same() {
        let options = SpanOptions {
            min_ns: 20_000,
            per_exit: true,
            json: true,
        };
        let (text, _) = written(options);
        let exit: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(exit["reason"], "io");
        assert_eq!(exit["duration_ns"], 20_000);
        assert_eq!(exit["inside"][0]["event"], "kvm_pio");
        assert_eq!(exit["inside"][0]["after_ns"], 2_000);
    }
}
