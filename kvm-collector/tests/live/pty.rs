//! A pseudoterminal. The test reads what programs print, so it decides when they can go on.

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

/// Time limit for expected output, also under emulation.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A terminal of 80x24.
pub(crate) struct Pty {
    /// The side of the test (the pseudoterminal's master).
    pub(crate) master: File,
    /// The side of the programs, non-blocking.
    terminal: File,
}

/// The settings that raw mode changes.
pub(crate) type Settings = (InputModes, OutputModes, ControlModes, LocalModes);

impl Pty {
    pub(crate) fn open() -> Result<Self, Failed> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size)?;
        let terminal = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(ptsname(&master, Vec::new())?.into_string()?)?;
        Ok(Self {
            master: master.into(),
            terminal,
        })
    }

    /// Starts a program with this terminal as stdin and stdout.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<ChildGuard, Failed> {
        use std::os::fd::AsRawFd as _;
        // Opened again, so that it is blocking, as terminals usually are.
        let terminal = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", self.terminal.as_raw_fd()))?;
        let child = command
            .stdin(terminal.try_clone()?)
            .stdout(terminal)
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(ChildGuard(child))
    }

    pub(crate) fn settings(&self) -> Result<Settings, Failed> {
        let settings = tcgetattr(&self.terminal)?;
        Ok((
            settings.input_modes,
            settings.output_modes,
            settings.control_modes,
            settings.local_modes,
        ))
    }

    /// Prints until the terminal's buffer is full.
    pub(crate) fn fill(&self) -> Result<(), Failed> {
        // When the buffer is full for the first time, the terminal still passes some of it on.
        for _ in 0..5 {
            loop {
                match (&self.terminal).write(&[b'.'; 64]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    other => other?,
                };
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Types as many keys as the terminal accepts at once, then waits 10 ms. Returns the number of keys.
    pub(crate) fn type_keys(&self) -> Result<usize, Failed> {
        let flags = fcntl_getfl(&self.master)?;
        fcntl_setfl(&self.master, flags | OFlags::NONBLOCK)?;
        let typed = match (&self.master).write(&[b'j'; 1 << 10]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        };
        fcntl_setfl(&self.master, flags)?;
        thread::sleep(Duration::from_millis(10));
        Ok(typed?)
    }

    /// Reads until this text has been printed.
    pub(crate) fn wait_for(&self, text: &str) -> Result<(), Failed> {
        let start = Instant::now();
        let timeout = Timespec::try_from(TIMEOUT)?;
        let (mut output, mut buffer) = (Vec::new(), [0; 4 << 10]);
        while !String::from_utf8_lossy(&output).contains(text) {
            let fds = &mut [PollFd::new(&self.master, PollFlags::IN)];
            let ready = poll(fds, Some(&timeout))?;
            ensure(ready > 0 && start.elapsed() < TIMEOUT, || {
                format!("no `{text}` in {:?}", String::from_utf8_lossy(&output))
            })?;
            let length = (&self.master).read(&mut buffer)?;
            output.extend_from_slice(&buffer[..length]);
        }
        Ok(())
    }
}
