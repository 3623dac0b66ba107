//! A line of a trace, in the layout that `trace` and ftrace (without its flags) share.

use std::fmt;

/// `      comm-tid   [cpu]   seconds: event: text`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) tid: u32,
    pub(crate) cpu: u32,
    pub(crate) time_ns: u64,
    pub(crate) event: String,
    /// All that follows, with the blanks that end it.
    pub(crate) text: String,
    /// What was taken out of the text by [`Line::take_pointers`].
    pub(crate) pointers: Vec<String>,
}

impl Line {
    /// `None` for what is no such line. Times have the µs that ftrace prints.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // A thread's name may be anything, brackets and dashes included; what follows it cannot.
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

    /// Takes what looks like a pointer, 16 hexadecimal digits, out of the text.
    pub(crate) fn take_pointers(&mut self) {
        let is_pointer =
            |word: &str| word.len() == 16 && word.bytes().all(|it| it.is_ascii_hexdigit());
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

    /// The same event of the same thread, in the same words.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let key = |line: &Self| (line.tid, line.cpu);
        key(self) == key(other) && self.event == other.event && self.text == other.text
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tid,
            cpu,
            time_ns,
            event,
            text,
            ..
        } = self;
        // In Debug's form, where one sees blanks and what is not text.
        write!(f, "{tid} [{cpu}] {time_ns} {event}: {text:?}")
    }
}
