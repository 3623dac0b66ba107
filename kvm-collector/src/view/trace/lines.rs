//! `trace`: a line an event, in trace_pipe's shape.

use std::io::{self, Write};

use serde::ser::{SerializeMap as _, Serializer as _};

use crate::{
    model::Counts,
    probe::Record,
    tracefs::{FieldKind, Format},
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

/// Writes events as lines. What it needs per event it keeps, so that an event allocates nothing.
#[derive(Debug)]
pub struct TraceLines {
    format: TraceFormat,
    color: bool,
    line: Vec<u8>,
    printed: u64,
    /// Per slot, how many were reported as lost.
    lost: Vec<u64>,
}

impl TraceLines {
    /// Lines of so many different events.
    #[must_use]
    pub fn new(events: usize, format: TraceFormat, color: bool) -> Self {
        Self {
            format,
            color,
            line: Vec::with_capacity(512),
            printed: 0,
            lost: vec![0; events],
        }
    }

    /// How many events were written.
    #[must_use]
    pub fn printed(&self) -> u64 {
        self.printed
    }

    /// Writes one event, of the format its slot has; `comm` is its thread's name.
    ///
    /// # Errors
    /// When writing fails.
    pub fn event(
        &mut self,
        record: &Record<'_>,
        formats: &[Format],
        comm: &str,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Some(format) = formats.get(usize::from(record.header.slot)) else {
            return Ok(());
        };
        self.line.clear();
        match self.format {
            TraceFormat::Json => json(record, format, comm, &mut self.line)?,
            TraceFormat::Kernel | TraceFormat::Fields => {
                self.prefix(record, format, comm)?;
                if self.format == TraceFormat::Kernel {
                    format.print(record.raw, &mut self.line);
                } else {
                    format.print_fields(record.raw, &mut self.line);
                }
            }
        }
        self.line.push(b'\n');
        self.printed += 1;
        out.write_all(&self.line)
    }

    /// `           CPU 0/KVM-5664    [000] 11906.220178: kvm_entry: `
    fn prefix(&mut self, record: &Record<'_>, format: &Format, comm: &str) -> io::Result<()> {
        let header = &record.header;
        let (seconds, micros) = (
            header.time_ns / 1_000_000_000,
            header.time_ns / 1000 % 1_000_000,
        );
        let (on, off) = if self.color {
            (color_of(&format.name), "\x1b[0m")
        } else {
            ("", "")
        };
        write!(
            self.line,
            "{comm:>16}-{:<7} [{:03}] {seconds:>6}.{micros:06}: {on}{}{off}: ",
            header.tid, header.cpu, format.name
        )
    }

    /// Writes a line for each event that has lost any since the last time.
    ///
    /// # Errors
    /// When writing fails.
    pub fn lost(&mut self, counts: &Counts, out: &mut impl Write) -> io::Result<()> {
        for (event, reported) in counts.events.iter().zip(&mut self.lost) {
            let lost = event.lost.saturating_sub(*reported);
            if lost == 0 {
                continue;
            }
            *reported = event.lost;
            match self.format {
                TraceFormat::Json => {
                    let line = serde_json::json!({
                        "lost": lost, "event": event.event.to_string(), "time_ns": counts.time_ns,
                    });
                    writeln!(out, "{line}")?;
                }
                TraceFormat::Kernel | TraceFormat::Fields => writeln!(
                    out,
                    "# lost {lost} {} before {}.{:06}: the ring buffer was full (--ring makes it larger)",
                    event.event,
                    counts.time_ns / 1_000_000_000,
                    counts.time_ns / 1000 % 1_000_000
                )?,
            }
        }
        Ok(())
    }
}

/// By kind: out of the guest, into it, out to the VMM, memory, interrupts, and the rest.
fn color_of(event: &str) -> &'static str {
    match event {
        "kvm_exit" | "kvm_nested_vmexit" => "\x1b[33m",
        "kvm_entry" => "\x1b[32m",
        "kvm_userspace_exit" => "\x1b[35m",
        _ if event.contains("fault") || event.contains("mmu") || event.contains("mmio") => {
            "\x1b[34m"
        }
        _ if event.contains("irq") || event.contains("apic") || event.contains("eoi") => "\x1b[36m",
        _ => "\x1b[1m",
    }
}

fn json(record: &Record<'_>, format: &Format, comm: &str, line: &mut Vec<u8>) -> io::Result<()> {
    let header = &record.header;
    let mut json = serde_json::Serializer::new(line);
    let mut event = json.serialize_map(None)?;
    event.serialize_entry("time_ns", &header.time_ns)?;
    event.serialize_entry("cpu", &header.cpu)?;
    event.serialize_entry("pid", &header.tgid)?;
    event.serialize_entry("tid", &header.tid)?;
    event.serialize_entry("comm", comm)?;
    event.serialize_entry("system", &format.system)?;
    event.serialize_entry("event", &format.name)?;
    event.serialize_entry(
        "fields",
        &Fields {
            raw: record.raw,
            format,
        },
    )?;
    event.end()?;
    Ok(())
}

/// An event's fields as a JSON object: numbers as numbers, the rest as text.
struct Fields<'a> {
    raw: &'a [u8],
    format: &'a Format,
}

impl serde::Serialize for Fields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in &self.format.fields {
            match field.kind {
                FieldKind::Bool => {
                    map.serialize_entry(&field.name, &field.read_u64(self.raw).map(|it| it != 0))?;
                }
                FieldKind::Integer if field.signed => {
                    map.serialize_entry(&field.name, &field.read_i64(self.raw))?;
                }
                FieldKind::Integer => {
                    map.serialize_entry(&field.name, &field.read_u64(self.raw))?
                }
                _ => map.serialize_entry(&field.name, &field.bytes(self.raw))?,
            }
        }
        map.end()
    }
}
