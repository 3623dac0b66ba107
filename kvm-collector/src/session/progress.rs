//! The line on the terminal that says how a recording goes.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, Instant},
};

use super::record::in_mib;
use crate::recording::RecordingStats;

/// How often the line changes.
const PERIOD: Duration = Duration::from_secs(1);

/// Erases the line.
const ERASE: &str = "\r\x1b[K";

/// A line on stderr that is written over once a second. It belongs to the thread that reads the rings, so it never waits
/// for the terminal: what the terminal does not take is left out.
#[derive(Debug)]
pub(super) struct Progress {
    /// The terminal; without one there is no line.
    terminal: Option<File>,
    shown: Option<Instant>,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let is_on = !quiet && std::io::stderr().is_terminal();
        Self {
            // Opened for itself: other users of the terminal still wait for it.
            terminal: is_on.then(|| open("/proc/self/fd/2").ok()).flatten(),
            shown: None,
        }
    }

    /// Shows the line, if it is time for it.
    pub(super) fn show(&mut self, began: Instant, recorded: RecordingStats, lost: u64) {
        if self.shown.is_none_or(|it| it.elapsed() >= PERIOD) {
            self.shown = Some(Instant::now());
            let seconds = began.elapsed().as_secs();
            let RecordingStats { events, bytes, .. } = recorded;
            let size = in_mib(bytes);
            self.write(&format!(
                "{ERASE}{seconds} s, {events} events, {size}, {lost} lost"
            ));
        }
    }

    /// Erases the line.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            self.write(ERASE);
        }
    }

    fn write(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            // A terminal that takes nothing now may take the next line.
            let _ = terminal.write(text.as_bytes());
        }
    }
}

/// Opens a terminal so that a write to it never waits.
fn open(path: &str) -> std::io::Result<File> {
    File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Says something that stays, on a line of its own.
pub(super) fn say(what: &str) {
    let erase = if std::io::stderr().is_terminal() {
        ERASE
    } else {
        ""
    };
    eprintln!("{erase}kvm-collector: {what}");
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_line_that_the_terminal_does_not_take_is_left_out() {
        // A pipe stands in for the terminal: both refuse a write when they are full.
        let (_reader, pipe) = rustix::pipe::pipe().unwrap();
        let mut progress = Progress {
            terminal: Some(open(&format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap()),
            shown: None,
        };
        // 64 KiB fit into a pipe.
        for _ in 0..2000 {
            progress.shown = None;
            progress.show(Instant::now(), RecordingStats::default(), 0);
        }
        progress.end();
    }
}
