//! `perf` as the other oracle: it records the same tracepoints, and `perf kvm stat` pairs them in user space, afterwards.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{ChildStdin, Command, Stdio},
};

use libtest_mimic::Failed;

use crate::{
    check::ensure,
    process::{ChildGuard, OutputReader, join_reader, run_command, spawn_reader},
    temp_files::TempFile,
};

/// Run by perf when its events are counted; ends when we close its input.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

/// What `perf kvm stat report --event` tells apart. (MSRs are not in its help.)
pub(crate) const VMEXIT: &str = "vmexit";

/// A perf that watches.
#[derive(Debug)]
struct Perf {
    child: ChildGuard,
    stdin: ChildStdin,
    stdout: OutputReader,
    stderr: OutputReader,
}

impl Perf {
    /// Starts it and returns when it sees events.
    fn begin(args: &[&str]) -> Result<Self, Failed> {
        let mut command = Command::new("perf");
        command.args(args).args(COMMAND).stdin(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command)?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let mut stdout = BufReader::new(child.0.stdout.take().ok_or("stdout is piped")?);
        let stderr = child.stderr();
        let mut first = String::new();
        stdout.read_line(&mut first)?;
        if first.trim() != "attached" {
            drop(child);
            let why = join_reader(stderr);
            return Err(format!("perf {args:?} did not begin: `{first}` and `{why}`").into());
        }
        Ok(Self {
            child,
            stdin,
            stdout: spawn_reader(Some(stdout)),
            stderr,
        })
    }

    /// Ends it; what it said.
    fn end(mut self) -> Result<String, Failed> {
        drop(self.stdin);
        let code = self.child.wait()?;
        let said = join_reader(self.stdout) + &join_reader(self.stderr);
        ensure(code == Some(0), || {
            format!("perf ended with {code:?}: {said}")
        })?;
        Ok(said)
    }
}

/// `perf kvm stat record`, of all CPUs.
#[derive(Debug)]
pub(crate) struct Recording {
    perf: Perf,
    file: TempFile,
}

impl Recording {
    /// Records by the clock that the collector uses.
    pub(crate) fn begin() -> Result<Self, Failed> {
        Self::begin_with(&[])
    }

    /// The same with options more.
    pub(crate) fn begin_with(options: &[&str]) -> Result<Self, Failed> {
        let file = TempFile::new("perf-data");
        let path = file.path().to_string_lossy();
        // perf's own clock is another one, and nothing says that the two run at the same rate.
        let args = ["kvm", "stat", "record", "-a", "-k", "mono", "-o", &path];
        Ok(Self {
            perf: Perf::begin(&[&args[..], options].concat())?,
            file,
        })
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        self.perf.child.signal(signal)
    }

    /// Ends it, with all events or not.
    pub(crate) fn end_with_losses(self) -> Result<Recorded, Failed> {
        self.perf.end()?;
        Ok(Recorded { file: self.file })
    }

    /// Ends it; an error if it does not have all events.
    pub(crate) fn end(self) -> Result<Recorded, Failed> {
        let recorded = self.end_with_losses()?;
        let losses = recorded.losses()?;
        ensure(losses.is_empty(), || {
            format!("perf lost events, so nothing can be said: {losses:?}")
        })?;
        Ok(recorded)
    }
}

/// What `perf kvm stat record` left.
#[derive(Debug)]
pub(crate) struct Recorded {
    file: TempFile,
}

/// A row of `perf kvm stat report`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) count: u64,
    pub(crate) min_us: f64,
    pub(crate) max_us: f64,
    pub(crate) mean_us: f64,
}

impl Row {
    /// All of them together, as exact as the two decimals of the mean.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn total_us(&self) -> f64 {
        self.mean_us * self.count as f64
    }
}

/// `perf kvm stat report` of a file, of the VMs of one process.
pub(crate) fn report_of(
    file: &str,
    event: &str,
    pid: &str,
) -> Result<BTreeMap<String, Row>, Failed> {
    let ended = run_command(Command::new("perf").args([
        "kvm", "-i", file, "stat", "report", "--event", event, "-p", pid,
    ]))?
    .expect_code(0)?;
    // Which of the two it prints to depends on its version.
    let said = ended.stdout + &ended.stderr;
    let rows: BTreeMap<_, _> = said.lines().filter_map(parse_row).collect();
    // Its last line is the sum: what was not understood would be missing.
    let total: u64 = rows.values().map(|row| row.count).sum();
    ensure(said.contains(&format!("Total Samples:{total},")), || {
        format!("not understood, of perf: {said}")
    })?;
    Ok(rows)
}

impl Recorded {
    /// `perf kvm stat report`, of the VMs of one process.
    pub(crate) fn report(&self, event: &str, pid: &str) -> Result<BTreeMap<String, Row>, Failed> {
        report_of(&self.path(), event, pid)
    }

    /// Where the recording lies.
    pub(crate) fn path(&self) -> String {
        self.file.path().to_string_lossy().into_owned()
    }

    /// Two kinds say so: one in the stream, when there is room again, and one that perf adds at the end from the kernel's counts.
    pub(crate) fn losses(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let path = self.file.path().to_string_lossy();
        let ended = run_command(Command::new("perf").args(["report", "--stats", "-i", &path]))?
            .expect_code(0)?;
        ensure(ended.stdout.contains("SAMPLE events:"), || {
            format!("not understood, of perf: {ended:?}")
        })?;
        Ok(ended.stdout.lines().filter_map(parse_loss).collect())
    }
}

/// `      LOST events:          3  ( 0.1%)`, and what else means that events are missing.
fn parse_loss(line: &str) -> Option<(String, u64)> {
    let (kind, rest) = line.trim().split_once(" events:")?;
    if !kind.starts_with("LOST") && kind != "THROTTLE" {
        return None;
    }
    let count = rest.split_whitespace().next()?.parse().ok()?;
    Some((kind.to_owned(), count))
}

/// `      npf       2008    19.92%    28.25%     21.98us  10261.04us    157.93us ( +-   9.23% )`; a name may have blanks in it.
fn parse_row(line: &str) -> Option<(String, Row)> {
    let (line, _) = line.split_once(" ( +-")?;
    let words: Vec<_> = line.split_whitespace().collect();
    let (name, [count, _, _, min, max, mean]) = words.split_last_chunk()?;
    let us = |word: &str| word.strip_suffix("us")?.parse().ok();
    let row = Row {
        count: count.parse().ok()?,
        min_us: us(min)?,
        max_us: us(max)?,
        mean_us: us(mean)?,
    };
    Some((name.join(" "), row))
}

/// `perf stat` of one event.
#[derive(Debug)]
pub(crate) struct Counting(Perf);

impl Counting {
    /// Counts an event in the threads that a process has now.
    pub(crate) fn begin(event: &str, pid: &str) -> Result<Self, Failed> {
        Ok(Self(Perf::begin(&["stat", "-x,", "-e", event, "-p", pid])?))
    }

    pub(crate) fn end(self) -> Result<u64, Failed> {
        // `2002,,kvm:kvm_pio,1503223,100.00,,`
        let said = self.0.end()?;
        said.lines()
            .find_map(|line| line.split_once(",,kvm:")?.0.parse().ok())
            .ok_or_else(|| format!("not understood, of perf: {said}").into())
    }
}
