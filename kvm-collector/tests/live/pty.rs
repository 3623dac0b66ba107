//! A terminal whose other end is the test's: what is printed is read when the test does, and not before.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{
        ControlModes, InputModes, LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize,
    },
};

use crate::{check::ensure, process::ChildGuard};

/// Nothing here takes longer, also under emulation.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal of 80 times 24.
pub(crate) struct Pty {
    /// The test's end of it.
    pub(crate) far: File,
    /// The programs' end; it does not wait.
    near: File,
}

/// What raw mode changes.
pub(crate) type Settings = (InputModes, OutputModes, ControlModes, LocalModes);

impl Pty {
    pub(crate) fn open() -> Result<Self, Failed> {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&far)?;
        unlockpt(&far)?;
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&far, size)?;
        let near = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(ptsname(&far, Vec::new())?.into_string()?)?;
        Ok(Self {
            far: far.into(),
            near,
        })
    }

    /// Starts a program on it.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<ChildGuard, Failed> {
        use std::os::fd::AsRawFd as _;
        // Opened for itself: programs wait, as they do on any terminal.
        let near = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", self.near.as_raw_fd()))?;
        let child = command
            .stdin(near.try_clone()?)
            .stdout(near)
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(ChildGuard(child))
    }

    pub(crate) fn settings(&self) -> Result<Settings, Failed> {
        let it = tcgetattr(&self.near)?;
        Ok((
            it.input_modes,
            it.output_modes,
            it.control_modes,
            it.local_modes,
        ))
    }

    /// Prints until it takes nothing more.
    pub(crate) fn fill(&self) -> Result<(), Failed> {
        // What it has taken is still passed on when it is full for the first time.
        for _ in 0..5 {
            loop {
                match (&self.near).write(&[b'.'; 64]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    other => other?,
                };
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Types keys for 10 ms, as many as it takes. Returns how many.
    pub(crate) fn type_keys(&self) -> Result<usize, Failed> {
        let flags = fcntl_getfl(&self.far)?;
        fcntl_setfl(&self.far, flags | OFlags::NONBLOCK)?;
        let typed = match (&self.far).write(&[b'j'; 1 << 10]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        };
        fcntl_setfl(&self.far, flags)?;
        thread::sleep(Duration::from_millis(10));
        Ok(typed?)
    }

    /// Reads until this has been printed.
    pub(crate) fn wait_for(&self, word: &str) -> Result<(), Failed> {
        let begin = Instant::now();
        let timeout = Timespec::try_from(PATIENCE)?;
        let (mut seen, mut some) = (Vec::new(), [0; 4 << 10]);
        while !String::from_utf8_lossy(&seen).contains(word) {
            let ready = poll(&mut [PollFd::new(&self.far, PollFlags::IN)], Some(&timeout))?;
            ensure(ready > 0 && begin.elapsed() < PATIENCE, || {
                format!("no `{word}` in {:?}", String::from_utf8_lossy(&seen))
            })?;
            let length = (&self.far).read(&mut some)?;
            seen.extend_from_slice(&some[..length]);
        }
        Ok(())
    }
}
