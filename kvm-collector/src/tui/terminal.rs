//! Writing to a terminal that may take nothing more: its window hangs, or the way to it does.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{QueueSelector, tcflush},
};

/// How often who waits for the terminal looks whether that is still wanted.
const POLL_PERIOD: Duration = Duration::from_millis(100);

/// Is what is still to be shown of no use any more?
static STOP_WAITING: AtomicBool = AtomicBool::new(false);

/// From here on nobody waits for the terminal to take a picture.
pub fn stop_waiting() {
    STOP_WAITING.store(true, Ordering::SeqCst);
}

/// The terminal on standard output. What it does not take is waited for, until it is over: then it is left out.
#[derive(Debug)]
pub(super) struct TerminalWriter(File);

impl TerminalWriter {
    pub(super) fn open() -> io::Result<Self> {
        // Opened anew: not to wait is then a property of ours alone, not of all who have the terminal.
        let own = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/proc/self/fd/1");
        // It may be another user's, whom we got it from.
        let file = own.or_else(|_| Ok(io::stdout().as_fd().try_clone_to_owned()?.into()));
        file.map(Self)
    }

    /// Until it takes something, or for this long.
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
                done => return done,
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

/// Writes what must be written at the end: after what is on its way, or in its place.
pub(super) fn write_or_discard_queued(bytes: &[u8]) -> io::Result<()> {
    let mut out = TerminalWriter::open()?;
    out.wait()?;
    match out.0.write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            tcflush(&out.0, QueueSelector::OFlush)?;
            out.0.write_all(bytes)
        }
        done => done,
    }
}
