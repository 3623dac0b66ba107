//! The progress line on the terminal.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    time::{Duration, Instant},
};

use super::stderr::write_stderr;
use crate::{bounds::bound_message, format::units::plural, outside_text::OutsideText};

/// Minimum time between two updates of the line.
const PERIOD: Duration = Duration::from_secs(1);

/// Erases the line.
const ERASE: &str = "\r\x1b[K";

/// A line on stderr that is overwritten once a second.
///
/// Writes do not block, because the thread that shows the line also reads the rings. If the terminal
/// accepts no output, an update is dropped.
#[derive(Debug)]
pub struct ProgressLine {
    /// `None` if there is no terminal, or with `--quiet`.
    terminal: Option<File>,
    last_shown: Option<Instant>,
    start: Instant,
}

impl ProgressLine {
    /// Starts the clock of the line. The line is never shown if `quiet` is true or stderr is not a terminal.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let is_on = !quiet && std::io::stderr().is_terminal();
        Self {
            // A new open file description: O_NONBLOCK must not affect other users of the terminal.
            terminal: is_on.then(|| open("/proc/self/fd/2").ok()).flatten(),
            last_shown: None,
            start: Instant::now(),
        }
    }

    /// Updates the line if the last update is [`PERIOD`] ago.
    /// `text` gets the time since the start.
    pub(super) fn show<E>(
        &mut self,
        text: impl FnOnce(Duration) -> Result<String, E>,
    ) -> Result<(), E> {
        if self.terminal.is_some() && self.last_shown.is_none_or(|it| it.elapsed() >= PERIOD) {
            self.last_shown = Some(Instant::now());
            let text = text(self.start.elapsed())?;
            self.write(&format!("{ERASE}{text}"));
        }
        Ok(())
    }

    /// Erases the line.
    pub(super) fn erase(&mut self) {
        if self.last_shown.take().is_some() {
            self.write(ERASE);
        }
    }

    fn write(&mut self, text: &str) {
        if let Some(terminal) = &mut self.terminal {
            // An error is not final: the terminal may accept the next update.
            let _ = terminal.write(text.as_bytes());
        }
    }
}

/// Describes the progress of counting: the time, the number of events so far, and how to end.
pub(super) fn progress_text(elapsed: Duration, count: u64, unit: &str) -> String {
    let seconds = elapsed.as_secs();
    format!(
        "{seconds} s, {} so far; Ctrl-C ends and reports",
        plural(count, unit)
    )
}

/// Opens a terminal for non-blocking writes.
fn open(path: &str) -> std::io::Result<File> {
    File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// Prints a message of one line on stderr, in place of the progress line. It may contain text from outside.
pub fn print_message(text: &str) {
    let erase = if std::io::stderr().is_terminal() {
        ERASE
    } else {
        ""
    };
    write_stderr(format_args!(
        "{erase}kvm-collector: {}\n",
        OutsideText::new(&*bound_message(text))
    ));
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn a_blocked_terminal_does_not_block_the_progress_line() {
        // A pipe behaves like a terminal here: both refuse a write when they are full.
        let (_reader, pipe) = rustix::pipe::pipe().unwrap();
        let mut progress = ProgressLine {
            terminal: Some(open(&format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap()),
            last_shown: None,
            start: Instant::now(),
        };
        // A pipe has a capacity of 64 KiB.
        for _ in 0..2000 {
            progress.last_shown = None;
            let shown = progress.show(|elapsed| Ok::<_, Infallible>(format!("{elapsed:?}")));
            shown.unwrap();
        }
        progress.erase();
    }
}
