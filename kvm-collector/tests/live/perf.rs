//! `perf` as a reference tool: it records the same tracepoints, and `perf kvm stat report` times the exits afterwards.

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

/// The command that perf runs once its events are enabled. It ends when the test closes its stdin.
const COMMAND: [&str; 4] = ["--", "sh", "-c", "echo attached; exec cat"];

/// The argument of `perf kvm stat report --event` for exit reasons.
pub(crate) const VMEXIT: &str = "vmexit";

/// A running perf with enabled events.
#[derive(Debug)]
struct RunningPerf {
    child: ChildGuard,
    stdin: ChildStdin,
    stdout: OutputReader,
    stderr: OutputReader,
}

impl RunningPerf {
    /// Starts perf, and returns once its events are enabled.
    fn start(args: &[&str]) -> Result<Self, Failed> {
        let mut command = Command::new("perf");
        command.args(args).args(COMMAND).stdin(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command)?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let mut stdout = BufReader::new(child.0.stdout.take().ok_or("stdout is piped")?);
        let stderr = child.stderr();
        let mut first_line = String::new();
        stdout.read_line(&mut first_line)?;
        if first_line.trim() != "attached" {
            drop(child);
            let stderr = join_reader(stderr);
            return Err(format!(
                "perf {args:?} did not start: stdout `{first_line}`, stderr `{stderr}`"
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

    /// Ends perf by ending its command. Returns the text on stdout and stderr.
    fn end(mut self) -> Result<String, Failed> {
        drop(self.stdin);
        let code = self.child.wait()?;
        let text = join_reader(self.stdout) + &join_reader(self.stderr);
        ensure(code == Some(0), || {
            format!("perf ended with {code:?}: {text}")
        })?;
        Ok(text)
    }
}

/// A running `perf kvm stat record` of all CPUs.
#[derive(Debug)]
pub(crate) struct Recording {
    perf: RunningPerf,
    file: TempFile,
}

impl Recording {
    /// Starts to record, with the clock that the collector uses.
    pub(crate) fn start() -> Result<Self, Failed> {
        Self::start_with(&[])
    }

    /// Like [`Recording::start`], with more options.
    pub(crate) fn start_with(options: &[&str]) -> Result<Self, Failed> {
        let file = TempFile::new("perf-data");
        let path = file.path().to_string_lossy();
        // The default clock of perf may run at a slightly different rate.
        let args = ["kvm", "stat", "record", "-a", "-k", "mono", "-o", &path];
        Ok(Self {
            perf: RunningPerf::start(&[&args[..], options].concat())?,
            file,
        })
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<(), Failed> {
        self.perf.child.signal(signal)
    }

    /// Ends the recording, which may lack events.
    pub(crate) fn end_allowing_losses(self) -> Result<RecordedFile, Failed> {
        self.perf.end()?;
        Ok(RecordedFile { file: self.file })
    }

    /// Ends the recording. Fails if perf lost events.
    pub(crate) fn end(self) -> Result<RecordedFile, Failed> {
        let recorded = self.end_allowing_losses()?;
        let losses = recorded.read_losses()?;
        ensure(losses.is_empty(), || {
            format!("perf lost events, so there is nothing to compare with: {losses:?}")
        })?;
        Ok(recorded)
    }
}

/// The file that `perf kvm stat record` wrote.
#[derive(Debug)]
pub(crate) struct RecordedFile {
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
    /// Returns the total time of all exits, as precisely as the two decimals of the mean allow.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn total_us(&self) -> f64 {
        self.mean_us * self.count as f64
    }
}

/// Runs `perf kvm stat report` on a file, for the VMs of one process. Returns the row of each key.
pub(crate) fn run_report(
    file: &str,
    event: &str,
    pid: &str,
) -> Result<BTreeMap<String, Row>, Failed> {
    let output = run_command(Command::new("perf").args([
        "kvm", "-i", file, "stat", "report", "--event", event, "-p", pid,
    ]))?
    .expect_code(0)?;
    // The version of perf decides to which of the two it prints.
    let text = output.stdout + &output.stderr;
    let rows: BTreeMap<_, _> = text.lines().filter_map(parse_row).collect();
    // The last line has the sum. It differs if a row was not parsed.
    let total: u64 = rows.values().map(|row| row.count).sum();
    ensure(text.contains(&format!("Total Samples:{total},")), || {
        format!("not the expected output of perf: {text}")
    })?;
    Ok(rows)
}

impl RecordedFile {
    /// Runs `perf kvm stat report`, for the VMs of one process. Returns the row of each key.
    pub(crate) fn run_report(
        &self,
        event: &str,
        pid: &str,
    ) -> Result<BTreeMap<String, Row>, Failed> {
        run_report(&self.path(), event, pid)
    }

    /// Returns the path of the recording.
    pub(crate) fn path(&self) -> String {
        self.file.path().to_string_lossy().into_owned()
    }

    /// Returns the counts of the records that report lost events, by the type of record. There are two types: `LOST` follows
    /// a loss in the stream, and `LOST_SAMPLES` is added at the end, from the counters of the kernel.
    pub(crate) fn read_losses(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let path = self.file.path().to_string_lossy();
        let output = run_command(Command::new("perf").args(["report", "--stats", "-i", &path]))?
            .expect_code(0)?;
        ensure(output.stdout.contains("SAMPLE events:"), || {
            format!("not the expected output of perf: {output:?}")
        })?;
        Ok(output.stdout.lines().filter_map(parse_loss).collect())
    }
}

/// Parses a line such as `      LOST events:          3  ( 0.1%)`; `None` if its record does not mean that events are missing.
fn parse_loss(line: &str) -> Option<(String, u64)> {
    let (kind, rest) = line.trim().split_once(" events:")?;
    if !kind.starts_with("LOST") && kind != "THROTTLE" {
        return None;
    }
    let count = rest.split_whitespace().next()?.parse().ok()?;
    Some((kind.to_owned(), count))
}

/// Parses a line such as `      npf       2008    19.92%    28.25%     21.98us  10261.04us    157.93us ( +-   9.23% )`. The name
/// may contain spaces.
fn parse_row(line: &str) -> Option<(String, Row)> {
    let (line, _) = line.split_once(" ( +-")?;
    let words: Vec<_> = line.split_whitespace().collect();
    let (name, [count, _, _, min, max, mean]) = words.split_last_chunk()?;
    let parse_us = |word: &str| word.strip_suffix("us")?.parse().ok();
    let row = Row {
        count: count.parse().ok()?,
        min_us: parse_us(min)?,
        max_us: parse_us(max)?,
        mean_us: parse_us(mean)?,
    };
    Some((name.join(" "), row))
}

/// A running `perf stat` of one event.
#[derive(Debug)]
pub(crate) struct PerfStat(RunningPerf);

impl PerfStat {
    /// Starts to count an event in the threads that a process has now.
    pub(crate) fn start(event: &str, pid: &str) -> Result<Self, Failed> {
        let args = ["stat", "-x,", "-e", event, "-p", pid];
        Ok(Self(RunningPerf::start(&args)?))
    }

    /// Ends perf. Returns the count.
    pub(crate) fn end(self) -> Result<u64, Failed> {
        let text = self.0.end()?;
        // The line is like `2002,,kvm:kvm_pio,1503223,100.00,,`.
        text.lines()
            .find_map(|line| line.split_once(",,kvm:")?.0.parse().ok())
            .ok_or_else(|| format!("not the expected output of perf: {text}").into())
    }
}
