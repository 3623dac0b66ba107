//! Writes to a terminal that may stop accepting output, because its window or its connection hangs.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::getpgid,
    termios::{
        LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, isatty, tcflush, tcgetattr,
        tcgetpgrp, tcsetattr,
    },
};

/// The byte that Ctrl-C sends.
const CTRL_C: u8 = 3;

/// How often a blocked write checks [`STOP_WAITING`].
const POLL_PERIOD: Duration = Duration::from_millis(100);

/// Writes no longer wait for the terminal.
static STOP_WAITING: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C send SIGINT, although the terminal is in raw mode. As a key, it would be a part of an escape sequence that has
/// begun, and some of them never end, such as a paste without its end.
pub(super) fn enable_interrupt_key() -> io::Result<()> {
    let stdin = io::stdin();
    let terminal = match isatty(&stdin) {
        true => stdin.as_fd().try_clone_to_owned()?,
        false => File::open("/dev/tty")?.into(),
    };
    // The terminal sends signals only to its own session's processes in the foreground. For others, it remains a key.
    let (foreground, own) = (tcgetpgrp(&terminal).ok(), getpgid(None).ok());
    if foreground.is_none() || foreground != own {
        return Ok(());
    }
    let mut settings = tcgetattr(&terminal)?;
    settings.local_modes |= LocalModes::ISIG;
    settings.special_codes[SpecialCodeIndex::VINTR] = CTRL_C;
    for other in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
        settings.special_codes[other] = 0;
    }
    Ok(tcsetattr(&terminal, OptionalActions::Now, &settings)?)
}

/// Makes writes discard output that the terminal does not accept at once.
pub fn stop_waiting() {
    STOP_WAITING.store(true, Ordering::SeqCst);
}

/// A writer to the terminal on stdout. A write waits until the terminal accepts output. After
/// [`stop_waiting`], output is discarded instead.
#[derive(Debug)]
pub(super) struct TerminalWriter(File);

impl TerminalWriter {
    pub(super) fn open() -> io::Result<Self> {
        // A new open file description: O_NONBLOCK must not affect other users of the terminal.
        let nonblocking = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/proc/self/fd/1");
        // Opening fails if another user owns the terminal, such as after `su`.
        let file = nonblocking.or_else(|_| Ok(io::stdout().as_fd().try_clone_to_owned()?.into()));
        file.map(Self)
    }

    /// Waits until the terminal accepts output, at most [`POLL_PERIOD`].
    fn wait(&self) -> io::Result<()> {
        let timeout = Timespec::try_from(POLL_PERIOD).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(&timeout)) {
            Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Write for TerminalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            if STOP_WAITING.load(Ordering::SeqCst) {
                return Ok(bytes.len());
            }
            self.wait()?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the last bytes. If the terminal accepts no output, discards what is queued for it and tries
/// again.
pub(super) fn write_or_discard_queued(bytes: &[u8]) -> io::Result<()> {
    let mut out = TerminalWriter::open()?;
    out.wait()?;
    match out.0.write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            tcflush(&out.0, QueueSelector::OFlush)?;
            out.0.write_all(bytes)
        }
        result => result,
    }
}
