//! Lines of a trace, in the format that `trace` and ftrace without `irq-info` share.

use std::fmt;

use crate::arch::UNDECODED_EVENTS;

/// A line such as `      comm-tid   [cpu]   seconds: event: text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceLine {
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    pub(crate) time_ns: u64,
    pub(crate) event: String,
    /// Everything after the event, including trailing spaces.
    pub(crate) text: String,
    /// The pointers that [`TraceLine::extract_pointers`] removed from the text.
    pub(crate) pointers: Vec<String>,
}

impl TraceLine {
    /// Parses a line; `None` if it is not a line of a trace. Times have a resolution of 1 µs, as ftrace prints them.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // The name of a thread may contain brackets and dashes; the rest of the line up to the event may not.
        let (at, cpu) = line.match_indices(" [").find_map(|(at, _)| {
            let (cpu, _) = line[at + 2..].split_once("] ")?;
            Some((at, cpu.parse().ok()?))
        })?;
        let (_, tid) = line[..at].trim_end().rsplit_once('-')?;
        let (_, rest) = line[at + 2..].split_once("] ")?;
        let (time, rest) = rest.trim_start().split_once(": ")?;
        let (seconds, micros) = time.split_once('.')?;
        let (event, text) = rest.split_once(": ")?;
        Some(Self {
            tid: tid.parse().ok()?,
            cpu,
            time_ns: (seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?)
                * 1000,
            event: event.to_owned(),
            text: text.to_owned(),
            pointers: Vec::new(),
        })
    }

    /// Moves all pointers, which are words of 16 hexadecimal digits, from `text` to `pointers`.
    pub(crate) fn extract_pointers(&mut self) {
        let is_pointer =
            |word: &str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let text = self.text.split_inclusive([' ', ':', ',']).map(|word| {
            let digits = word.trim_end_matches([' ', ':', ',']);
            if !is_pointer(digits) {
                return word.to_owned();
            }
            self.pointers.push(digits.to_owned());
            word.replace(digits, "POINTER")
        });
        self.text = text.collect();
    }

    /// Returns whether the line has the fields of an event that cannot be decoded everywhere, instead of its text.
    fn is_undecoded(&self) -> bool {
        let first_word = self.text.split(' ').next().unwrap_or_default();
        UNDECODED_EVENTS.contains(&self.event.as_str()) && first_word.contains('=')
    }

    /// Returns whether two lines have the same thread, event and text. Times and pointers may differ, and the CPU, if the thread
    /// moves between the two records.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.tid == other.tid
            && self.event == other.event
            && (self.is_undecoded()
                || other.is_undecoded()
                || without_requests(&self.text) == without_requests(&other.text))
    }
}

/// Returns a text without the pending requests of the vCPU, which `kvm_exit` has at its end since Linux 7. Interrupts and other
/// CPUs change them at any time, also between the records of two tools.
fn without_requests(text: &str) -> &str {
    text.rsplit_once(" requests 0x").map_or(text, |it| it.0)
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tid,
            cpu,
            time_ns,
            event,
            text,
            ..
        } = self;
        // The debug format shows trailing spaces and control characters.
        write!(f, "{tid} [{cpu}] {time_ns} {event}: {text:?}")
    }
}
