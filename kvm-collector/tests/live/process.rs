//! Child processes of the tests: each is killed when its test ends, and waits for them have a timeout.

use std::{
    io::Read,
    process::{Child, ChildStderr, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{check::ensure, requirements::collector_command, schema::check_schema};

/// No process of these tests runs longer, also under emulation.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Maximum number of objects at the start of an output that are validated with the schema.
const SCHEMA_CHECKS: usize = 20;

/// The exit code and the output of a process that has ended.
#[derive(Debug)]
pub(crate) struct FinishedProcess {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl FinishedProcess {
    /// Fails if the process panicked.
    pub(crate) fn new(code: Option<i32>, stdout: String, stderr: String) -> Result<Self, Failed> {
        let finished = Self {
            code,
            stdout,
            stderr,
        };
        ensure(!finished.stderr.contains("panicked"), || {
            format!("the process panicked: {finished:?}")
        })?;
        Ok(finished)
    }

    /// Fails unless the process ended with this exit code.
    pub(crate) fn expect_code(self, code: i32) -> Result<Self, Failed> {
        ensure(self.code == Some(code), || {
            format!("expected exit code {code}: {self:?}")
        })?;
        Ok(self)
    }

    /// Fails unless stderr contains all of `texts`.
    pub(crate) fn expect_message(self, texts: &[&str]) -> Result<Self, Failed> {
        for text in texts {
            ensure(self.stderr.contains(text), || {
                format!("expected `{text}` on stderr: {self:?}")
            })?;
        }
        Ok(self)
    }

    /// Parses each line of stdout as JSON.
    pub(crate) fn json(&self) -> Result<Vec<Value>, Failed> {
        let parse = |line| {
            serde_json::from_str(line).map_err(|error| {
                Failed::from(format!("{error} in `{line}`; stderr: {}", self.stderr))
            })
        };
        let objects: Vec<Value> = self.stdout.lines().map(parse).collect::<Result<_, _>>()?;
        // Streams may have very many objects, which are all alike.
        let some = objects.iter().take(SCHEMA_CHECKS).chain(objects.last());
        for object in some {
            check_schema(object).map_err(|error| format!("{error} in {object}"))?;
        }
        Ok(objects)
    }

    /// Parses the last line of stdout as JSON: the report, or with several reports that of the whole run.
    pub(crate) fn report(&self) -> Result<Value, Failed> {
        self.json()?
            .pop()
            .ok_or_else(|| format!("no report: {self:?}").into())
    }
}

/// Runs the collector until it ends.
pub(crate) fn run_collector(args: &[&str]) -> Result<FinishedProcess, Failed> {
    run_command(collector_command().args(args))
}

/// Runs a command until it ends.
pub(crate) fn run_command(command: &mut Command) -> Result<FinishedProcess, Failed> {
    let mut child = ChildGuard::spawn(command.stdin(Stdio::null()))?;
    let stdout = spawn_reader(child.0.stdout.take());
    let stderr = child.stderr();
    let code = child.wait()?;
    FinishedProcess::new(code, join_reader(stdout), join_reader(stderr))
}

/// A child process that is killed on drop.
#[derive(Debug)]
pub(crate) struct ChildGuard(pub(crate) Child);

impl ChildGuard {
    /// Starts a command with pipes for its stdout and stderr.
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

    /// Starts to read stderr.
    pub(crate) fn stderr(&mut self) -> OutputReader {
        spawn_reader::<ChildStderr>(self.0.stderr.take())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .ok_or("no pid")?;
        rustix::process::kill_process(pid, signal)?;
        Ok(())
    }

    /// Waits for the end. Returns the exit code, `None` if a signal ended the process.
    pub(crate) fn wait(&mut self) -> Result<Option<i32>, Failed> {
        let deadline = Instant::now() + TIMEOUT;
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

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Both fail if the process has ended, which is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread that reads all output of a process, so that the process never blocks on a full pipe.
pub(crate) type OutputReader = JoinHandle<String>;

/// Starts a thread that reads a pipe to its end.
pub(crate) fn spawn_reader<R: Read + Send + 'static>(pipe: Option<R>) -> OutputReader {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // On an error, what was read before it is returned.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end of the output, and returns all of it.
pub(crate) fn join_reader(reader: OutputReader) -> String {
    reader.join().unwrap_or_default()
}
