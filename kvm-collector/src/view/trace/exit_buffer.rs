//! The text of an exit in progress: its events are written only when the exit ends.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    model::Event,
    outside_text::{OutsideText, escape_end, write_json},
    tracefs::Format,
    view::{ExitRecord, JsonLine},
};

/// Maximum capacity of a text that is kept for another exit.
const MAX_SPARE_BYTES: usize = 4 << 10;

/// The text of one exit in progress. The memory is reused for other exits.
#[derive(Debug, Default)]
pub(super) struct ExitBuffer {
    /// Time of the `kvm_exit` event.
    pub(super) exit_ns: u64,
    /// Number of events in the text, including `kvm_exit`.
    pub(super) events: u64,
    /// Number of events that were omitted because the text was too long.
    pub(super) omitted: u64,
    /// With one line per exit: the start of the line. For JSON, only the thread name.
    pub(super) prefix: Vec<u8>,
    /// Complete lines. With one line per exit: the events within the exit.
    pub(super) text: Vec<u8>,
}

impl ExitBuffer {
    /// Clears the buffer for another exit, and limits its memory.
    pub(super) fn clear(&mut self) {
        self.omitted = 0;
        for text in [&mut self.text, &mut self.prefix] {
            text.clear();
            text.shrink_to(MAX_SPARE_BYTES);
        }
    }

    /// Appends an event within the exit, for one line per exit.
    pub(super) fn append_event(
        &mut self,
        event: &Event<'_>,
        format: &Format,
        json: bool,
    ) -> io::Result<()> {
        if !json {
            let name = format.name.strip_prefix("kvm_").unwrap_or(&format.name);
            self.text.extend_from_slice(b" | ");
            OutsideText::new(name).append_to(&mut self.text);
            self.text.extend_from_slice(b": ");
            let start = self.text.len();
            format.print(event.raw, &mut self.text);
            escape_end(&mut self.text, start);
            while self.text.last() == Some(&b' ') {
                self.text.pop();
            }
            return Ok(());
        }
        let mut text = Vec::new();
        format.print(event.raw, &mut text);
        let text = String::from_utf8_lossy(&text);
        let object = EventObject {
            event: format.full_name(),
            after_ns: event.time_ns.saturating_sub(self.exit_ns),
            text: text.trim_end(),
        };
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        write_json(&object, &mut self.text)
    }

    /// Writes the exit as one JSON object.
    pub(super) fn write_json(
        &self,
        record: &ExitRecord<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut object = Vec::new();
        write_json(&JsonLine::new(record), &mut object)?;
        // The text already is JSON: the events, separated by commas.
        let open = object.strip_suffix(b"}").unwrap_or(&object);
        out.write_all(open)?;
        write!(out, ",\"left_out\":{},\"inside\":[", self.omitted)?;
        out.write_all(&self.text)?;
        out.write_all(b"]}\n")
    }
}

/// An event within an exit.
#[derive(Serialize)]
struct EventObject<'a> {
    event: &'a str,
    /// The time since `kvm_exit`.
    after_ns: u64,
    /// The text that the kernel prints for it.
    text: &'a str,
}
