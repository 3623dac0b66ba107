//! A collector that watches from the beginning to the end, and what it says then.

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
    number,
    resources::{Grown, Resources},
};
use crate::process::say;

/// Started by the collector when its programs are attached; ends when its input does.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

pub(super) struct Watcher {
    name: String,
    child: Child,
    stdin: ChildStdin,
    /// The last line of its output.
    last: JoinHandle<String>,
    stderr: JoinHandle<String>,
    resources: Resources,
}

/// How it ended.
pub(super) struct Ended {
    name: String,
    last: String,
    stderr: String,
    pub(super) grown: Grown,
}

impl Watcher {
    /// Starts it and returns when it counts.
    pub(super) fn begin(collector: &Path, args: &[&str], pids: &str) -> Result<Self> {
        let name = args.join(" ");
        say!("{name}");
        let mut command = Command::new(collector);
        command.args(args).args(["-p", pids]).args(COMMAND);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run `{name}`"))?;
        let stdin = child.stdin.take().context("its input is piped")?;
        let mut stdout = BufReader::new(child.stdout.take().context("its output is piped")?);
        let mut stderr = child.stderr.take().context("its messages are piped")?;
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            // What came before an error is what there is.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        if first.trim() != "attached" {
            bail!(
                "`{name}` did not begin: {first}{}",
                stderr.join().unwrap_or_default()
            );
        }
        let last = thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.last().unwrap_or_default()
        });
        Ok(Self {
            name,
            resources: Resources::of(child.id()),
            child,
            stdin,
            last,
            stderr,
        })
    }

    pub(super) fn sample(&mut self, at: Duration) -> Result<()> {
        self.resources
            .sample(at)
            .with_context(|| format!("of `{}`", self.name))
    }

    pub(super) fn end(mut self) -> Result<Ended> {
        drop(self.stdin);
        let status = self.child.wait()?;
        let ended = Ended {
            name: self.name,
            last: self.last.join().unwrap_or_default(),
            stderr: self.stderr.join().unwrap_or_default(),
            grown: self.resources.grown(),
        };
        ensure!(
            status.success(),
            "`{}` ended with {status}: {}",
            ended.name,
            ended.stderr
        );
        Ok(ended)
    }
}

/// What was counted, or shown, and what was said to be missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) shown: u64,
    pub(super) lost: u64,
}

impl Ended {
    /// The report of the whole time, from which nothing is missing.
    pub(super) fn report(&self) -> Result<Value> {
        let report: Value = serde_json::from_str(&self.last)
            .with_context(|| format!("`{}` said: {}{}", self.name, self.last, self.stderr))?;
        let loss = report["loss"]
            .as_object()
            .context("a report says what is missing")?;
        ensure!(
            loss.values().all(|it| it.as_u64() == Some(0)),
            "`{}` misses something: {}",
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

/// All events of a report of `stat`.
pub(super) fn all_events(report: &Value) -> Result<u64> {
    events(report)?.iter().map(|row| number(row, "count")).sum()
}

/// Returns to user space, by `stat`.
pub(super) fn of_stat(ended: &Ended) -> Result<Counted> {
    let report = ended.report()?;
    let row = events(&report)?
        .iter()
        .find(|row| row["event"] == "kvm:kvm_userspace_exit");
    let shown = number(row.context("no kvm_userspace_exit")?, "count")?;
    Ok(Counted { shown, lost: 0 })
}

/// Exits for these reasons: the host's interrupts make others.
pub(super) fn of_exits(ended: &Ended, reasons: &BTreeMap<String, u64>) -> Result<Counted> {
    let report = ended.report()?;
    let rows = report["rows"].as_array().context("a report without rows")?;
    let is_wanted = |row: &&Value| {
        row["reason"]
            .as_str()
            .is_some_and(|it| reasons.contains_key(it))
    };
    let counts = rows
        .iter()
        .filter(is_wanted)
        .map(|row| number(row, "count"));
    Ok(Counted {
        shown: counts.sum::<Result<_>>()?,
        lost: 0,
    })
}

/// Accesses to ports.
pub(super) fn of_ports(ended: &Ended) -> Result<Counted> {
    let shown = number(&ended.report()?, "count")?;
    Ok(Counted { shown, lost: 0 })
}

/// From what `trace` and `record` say at the end: `12 events printed, 3 events lost`, `12 events recorded to 2 files ..., 3 lost`.
pub(super) fn of_summary(ended: &Ended, done: &str) -> Result<Counted> {
    let summary = || {
        let line = ended.stderr.lines().find(|it| it.contains(done))?;
        let (shown, _) = line
            .strip_prefix("kvm-collector: ")?
            .split_once(" events ")?;
        let (_, lost) = line.rsplit_once(", ")?;
        Some(Counted {
            shown: shown.parse().ok()?,
            lost: lost.split_whitespace().next()?.parse().ok()?,
        })
    };
    summary().with_context(|| format!("`{}` said: {}", ended.name, ended.stderr))
}
