//! Processes that a test starts: none outlives it, and none can hang it.

use std::{
    io::Read,
    process::{Child, ChildStderr, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{check::ensure, needs::collector};

/// Nothing here takes longer, also under emulation.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a run of the collector ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Whatever happens, there is no panic.
    pub(crate) fn new(code: Option<i32>, stdout: String, stderr: String) -> Result<Self, Failed> {
        let ended = Self {
            code,
            stdout,
            stderr,
        };
        ensure(!ended.stderr.contains("panicked"), || {
            format!("it panicked: {ended:?}")
        })?;
        Ok(ended)
    }

    pub(crate) fn expect_code(self, code: i32) -> Result<Self, Failed> {
        ensure(self.code == Some(code), || {
            format!("exit code {code} was expected: {self:?}")
        })?;
        Ok(self)
    }

    /// All of `words` are in its messages.
    pub(crate) fn expect_message(self, words: &[&str]) -> Result<Self, Failed> {
        for word in words {
            ensure(self.stderr.contains(word), || {
                format!("`{word}` was expected on stderr: {self:?}")
            })?;
        }
        Ok(self)
    }

    /// Each line of stdout, as JSON.
    pub(crate) fn json(&self) -> Result<Vec<Value>, Failed> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|error| {
                    Failed::from(format!("{error} in `{line}`; stderr: {}", self.stderr))
                })
            })
            .collect()
    }

    /// The last line of stdout, as JSON: a report, or of several the one of the whole time.
    pub(crate) fn report(&self) -> Result<Value, Failed> {
        self.json()?
            .pop()
            .ok_or_else(|| format!("no report: {self:?}").into())
    }
}

/// Runs the collector to its end.
pub(crate) fn run(args: &[&str]) -> Result<Ended, Failed> {
    run_command(collector().args(args))
}

/// Runs a command to its end.
pub(crate) fn run_command(command: &mut Command) -> Result<Ended, Failed> {
    let mut child = Kept::spawn(command.stdin(Stdio::null()))?;
    let stdout = read_all(child.0.stdout.take());
    let stderr = child.stderr();
    let code = child.wait()?;
    Ended::new(code, text(stdout), text(stderr))
}

/// A child that is killed when the test ends before it.
#[derive(Debug)]
pub(crate) struct Kept(pub(crate) Child);

impl Kept {
    /// Starts it, with its output and its messages piped here.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, Failed> {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {command:?}: {error}"))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn stderr(&mut self) -> Reading {
        read_all::<ChildStderr>(self.0.stderr.take())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("no pid")?;
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// Its exit code, `None` if a signal ended it.
    pub(crate) fn wait(&mut self) -> Result<Option<i32>, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code());
            }
            ensure(Instant::now() < deadline, || {
                format!("process {} does not end", self.pid())
            })?;
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It has ended, as a rule.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Output being read, so that its writer never waits for us.
pub(crate) type Reading = JoinHandle<String>;

pub(crate) fn read_all<R: Read + Send + 'static>(pipe: Option<R>) -> Reading {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

pub(crate) fn text(reading: Reading) -> String {
    reading.join().unwrap_or_default()
}
