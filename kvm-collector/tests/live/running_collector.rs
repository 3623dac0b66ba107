//! A collector that runs while a test does something.

use std::{
    io::{BufRead as _, BufReader},
    process::{ChildStdin, Stdio},
};

use libtest_mimic::Failed;

use crate::{
    process::{ChildGuard, FinishedProcess, OutputReader, join_reader, spawn_reader},
    requirements::collector_command,
};

/// The command that the collector runs once its programs are attached. It ends when the test closes its stdin.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

/// A collector with attached programs.
pub(crate) struct RunningCollector {
    child: ChildGuard,
    stdin: ChildStdin,
    stdout: OutputReader,
    stderr: OutputReader,
}

impl RunningCollector {
    /// Starts a collector, and returns once its programs are attached.
    pub(crate) fn start(args: &[&str]) -> Result<Self, Failed> {
        let mut child = ChildGuard::spawn(
            collector_command()
                .args(args)
                .args(COMMAND)
                .stdin(Stdio::piped()),
        )?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let mut stdout = BufReader::new(child.0.stdout.take().ok_or("stdout is piped")?);
        let stderr = child.stderr();
        let mut first_line = String::new();
        stdout.read_line(&mut first_line)?;
        if first_line.trim() != "attached" {
            drop(child);
            return Err(format!(
                "{args:?} did not start: stdout `{first_line}`, stderr `{}`",
                join_reader(stderr)
            )
            .into());
        }
        Ok(Self {
            child,
            stdin,
            stdout: spawn_reader(Some(stdout)),
            stderr,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        self.child.signal(signal)
    }

    /// Ends the collector by ending its command.
    pub(crate) fn end(self) -> Result<FinishedProcess, Failed> {
        drop(self.stdin);
        Self::wait_for_end(self.child, self.stdout, self.stderr)
    }

    /// Waits until the collector ends by itself. If its command is still running, it ends then.
    pub(crate) fn wait(mut self) -> Result<FinishedProcess, Failed> {
        let code = self.child.wait()?;
        drop(self.stdin);
        FinishedProcess::new(code, join_reader(self.stdout), join_reader(self.stderr))
    }

    /// Ends the collector with a signal. If its command is still running, it ends then.
    pub(crate) fn end_with_signal(
        self,
        signal: rustix::process::Signal,
    ) -> Result<FinishedProcess, Failed> {
        self.child.signal(signal)?;
        self.wait()
    }

    /// Kills the collector, and ends the command that it leaves behind.
    pub(crate) fn kill(self) -> Result<FinishedProcess, Failed> {
        self.child.signal(rustix::process::Signal::KILL)?;
        drop(self.stdin);
        Self::wait_for_end(self.child, self.stdout, self.stderr)
    }

    fn wait_for_end(
        mut child: ChildGuard,
        stdout: OutputReader,
        stderr: OutputReader,
    ) -> Result<FinishedProcess, Failed> {
        let code = child.wait()?;
        FinishedProcess::new(code, join_reader(stdout), join_reader(stderr))
    }
}
