//! A collector command that runs during the whole test, and its report at the end.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    json::number,
    resources::{Growth, Resources},
};
use crate::process::info;

/// The command that the collector starts once its programs are attached. It ends at the end of its stdin.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

/// A running collector command.
pub(super) struct Tool {
    name: String,
    child: Child,
    stdin: ChildStdin,
    /// Reads stdout and returns its last line.
    last_line: JoinHandle<String>,
    stderr: JoinHandle<String>,
    resources: Resources,
}

/// Output of a finished command.
pub(super) struct ToolResult {
    name: String,
    last_line: String,
    stderr: String,
    pub(super) growth: Growth,
}

impl Tool {
    /// Starts the command and returns when its programs are attached.
    pub(super) fn start(collector: &Path, args: &[&str], pids: &str) -> Result<Self> {
        let name = args.join(" ");
        info!("{name}");
        let mut command = Command::new(collector);
        command.args(args).args(["-p", pids]).args(COMMAND);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run `{name}`"))?;
        let stdin = child.stdin.take().context("stdin is not piped")?;
        let mut stdout = BufReader::new(child.stdout.take().context("stdout is not piped")?);
        let mut stderr = child.stderr.take().context("stderr is not piped")?;
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            // An error leaves the text that was read before it.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        if first.trim() != "attached" {
            bail!(
                "`{name}` did not start: {first}{}",
                stderr.join().unwrap_or_default()
            );
        }
        let last_line = thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.last().unwrap_or_default()
        });
        Ok(Self {
            name,
            resources: Resources::new(child.id()),
            child,
            stdin,
            last_line,
            stderr,
        })
    }

    pub(super) fn sample(&mut self, at: Duration) -> Result<()> {
        self.resources
            .sample(at)
            .with_context(|| format!("cannot sample `{}`", self.name))
    }

    pub(super) fn finish(mut self) -> Result<ToolResult> {
        drop(self.stdin);
        let status = self.child.wait()?;
        let result = ToolResult {
            name: self.name,
            last_line: self.last_line.join().unwrap_or_default(),
            stderr: self.stderr.join().unwrap_or_default(),
            growth: self.resources.growth(),
        };
        ensure!(
            status.success(),
            "`{}` ended with {status}: {}",
            result.name,
            result.stderr
        );
        Ok(result)
    }
}

/// Events that a command reports.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventCounts {
    pub(super) shown: u64,
    pub(super) lost: u64,
}

impl ToolResult {
    /// Parses the report of the whole time.
    ///
    /// # Errors
    /// If it is invalid or reports any loss.
    pub(super) fn report(&self) -> Result<Value> {
        let report: Value = serde_json::from_str(&self.last_line).with_context(|| {
            format!("`{}` printed: {}{}", self.name, self.last_line, self.stderr)
        })?;
        let loss = report["loss"]
            .as_object()
            .context("a report without `loss`")?;
        ensure!(
            loss.values().all(|count| count.as_u64() == Some(0)),
            "`{}` reports loss: {}",
            self.name,
            report["loss"]
        );
        Ok(report)
    }
}

fn events(report: &Value) -> Result<&Vec<Value>> {
    report["events"]
        .as_array()
        .context("a report without events")
}

/// Number of all events in a report of `stat`.
pub(super) fn total_events(report: &Value) -> Result<u64> {
    events(report)?.iter().map(|row| number(row, "count")).sum()
}

/// Number of `kvm_userspace_exit` events in a report of `stat`.
pub(super) fn userspace_exit_counts(result: &ToolResult) -> Result<EventCounts> {
    let report = result.report()?;
    let row = events(&report)?
        .iter()
        .find(|row| row["event"] == "kvm:kvm_userspace_exit");
    let shown = number(row.context("no kvm_userspace_exit")?, "count")?;
    Ok(EventCounts { shown, lost: 0 })
}

/// Number of exits with these reasons. Interrupts of the host cause exits with other reasons.
pub(super) fn exit_counts(
    result: &ToolResult,
    reasons: &BTreeMap<String, u64>,
) -> Result<EventCounts> {
    let report = result.report()?;
    let rows = report["rows"].as_array().context("a report without rows")?;
    let is_wanted = |row: &&Value| {
        row["reason"]
            .as_str()
            .is_some_and(|reason| reasons.contains_key(reason))
    };
    let counts = rows
        .iter()
        .filter(is_wanted)
        .map(|row| number(row, "count"));
    Ok(EventCounts {
        shown: counts.sum::<Result<_>>()?,
        lost: 0,
    })
}

/// Number of port accesses in a report of `exits --kind pio`.
pub(super) fn port_access_counts(result: &ToolResult) -> Result<EventCounts> {
    let shown = number(&result.report()?, "count")?;
    Ok(EventCounts { shown, lost: 0 })
}

/// Parses the last message of `trace` and `record`, such as `12 events printed, 3 events lost` or
/// `12 events recorded to 2 files ..., 3 lost`.
pub(super) fn summary_counts(result: &ToolResult, verb: &str) -> Result<EventCounts> {
    let summary = || {
        let line = result.stderr.lines().find(|line| line.contains(verb))?;
        let shown = line.strip_prefix("kvm-collector: ")?;
        let (_, lost) = line.rsplit_once(", ")?;
        let first_number = |text: &str| {
            let digits = text.split_whitespace().next()?.replace(',', "");
            digits.parse().ok()
        };
        Some(EventCounts {
            shown: first_number(shown)?,
            lost: first_number(lost)?,
        })
    };
    summary().with_context(|| format!("`{}` printed: {}", result.name, result.stderr))
}
