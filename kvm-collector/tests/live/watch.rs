//! The collector around something: attached before it begins, ended after it.

use std::{
    io::{BufRead as _, BufReader},
    process::{ChildStdin, Stdio},
};

use libtest_mimic::Failed;

use crate::{
    needs::collector,
    process::{Ended, Kept, Reading, read_all, text},
};

/// Started by the collector when its programs are attached; ends when we close its input.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

/// A collector that watches.
pub(crate) struct Watch {
    child: Kept,
    stdin: ChildStdin,
    stdout: Reading,
    stderr: Reading,
}

impl Watch {
    /// Starts it and returns when it counts.
    pub(crate) fn begin(args: &[&str]) -> Result<Self, Failed> {
        let mut child = Kept::spawn(collector().args(args).args(COMMAND).stdin(Stdio::piped()))?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let mut stdout = BufReader::new(child.0.stdout.take().ok_or("stdout is piped")?);
        let stderr = child.stderr();
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        if first.trim() != "attached" {
            drop(child);
            return Err(format!(
                "{args:?} did not begin: it said `{first}` and `{}`",
                text(stderr)
            )
            .into());
        }
        Ok(Self {
            child,
            stdin,
            stdout: read_all(Some(stdout)),
            stderr,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        self.child.signal(signal)
    }

    /// Ends it: its command ends, and so it does.
    pub(crate) fn end(self) -> Result<Ended, Failed> {
        drop(self.stdin);
        Self::ended(self.child, self.stdout, self.stderr)
    }

    /// Waits until it ends by itself. Its command, should that be left, ends with its input.
    pub(crate) fn wait(mut self) -> Result<Ended, Failed> {
        let code = self.child.wait()?;
        drop(self.stdin);
        Ended::new(code, text(self.stdout), text(self.stderr))
    }

    /// Ends it by a signal. Its command, should that be left, ends with its input.
    pub(crate) fn end_by(self, signal: rustix::process::Signal) -> Result<Ended, Failed> {
        self.child.signal(signal)?;
        self.wait()
    }

    /// Kills it. Its command, which then is nobody's, ends with its input.
    pub(crate) fn kill(self) -> Result<Ended, Failed> {
        self.child.signal(rustix::process::Signal::KILL)?;
        drop(self.stdin);
        Self::ended(self.child, self.stdout, self.stderr)
    }

    fn ended(mut child: Kept, stdout: Reading, stderr: Reading) -> Result<Ended, Failed> {
        let code = child.wait()?;
        Ended::new(code, text(stdout), text(stderr))
    }
}
