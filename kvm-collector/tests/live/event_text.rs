//! `trace` prints each event byte for byte like ftrace.
//!
//! ftrace records the same events in the same run. The test compares the lines of the guests' threads. These threads start
//! and end within both recordings, so every line of one recording has its counterpart in the other.
//!
//! There is one difference: for `%p`, the kernel prints a hash of the pointer with a secret key, and `trace` prints the
//! pointer itself. The test checks that equal pointers have equal hashes, and that the rest of the line is equal.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
};

use libtest_mimic::{Failed, Trial};

use crate::{
    arch::{GUEST_WITH_HYPERCALL, GUESTS, INTERRUPTS_HAVE_EVENTS, MIN_EVENTS, has_exit_events},
    check::{ensure_equal, kernel_counts_misses, kernel_version},
    ftrace_recording::{FtraceRecording, events_with_hashes},
    requirements::{Requirement, collector_command, test},
    support::Shown,
    temp_files::TempFile,
    trace_line::TraceLine,
};

/// The maximum distance between two lines that were recorded in different orders.
///
/// An interrupt can occur after the one recorder has handled an event and before the other one does. If the interrupt
/// causes events, the orders of the two recorders differ, and both are right.
const MAX_DISTANCE: usize = 8;

/// The same if the trace may lack events: each of them moves the following lines by one place.
const MAX_MISSED: usize = 64;

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "trace_text_equals_ftrace",
        &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs],
        trace_text_equals_ftrace,
    )]
}

fn trace_text_equals_ftrace() -> Result<(), Failed> {
    let recording = FtraceRecording::start()?;
    let Trace {
        text: ours,
        guest_reports,
        missed,
    } = run_trace()?;
    let (theirs, lost) = recording.stop()?;
    if lost > 0 {
        return Err(
            format!("ftrace lost {lost} events, so there is nothing to compare with").into(),
        );
    }
    let threads = guest_threads(&guest_reports)?;
    let hashes = events_with_hashes()?;
    let ours = parse_by_thread(&ours, &threads, &hashes)?;
    let theirs = parse_by_thread(&theirs, &threads, &hashes)?;

    let mut comparison = Comparison {
        missed,
        may_move: kernel_version()? >= (7, 0),
        ..Comparison::default()
    };
    for tid in threads {
        let of_thread =
            |lines: &BTreeMap<u32, Vec<TraceLine>>| lines.get(&tid).cloned().unwrap_or_default();
        comparison.compare_thread(of_thread(&ours), of_thread(&theirs));
    }
    comparison.print();
    comparison.check()?;
    Shown::Text.print(comparison.equal.values().sum());
    Ok(())
}

/// What `trace` wrote while the guests ran.
struct Trace {
    text: String,
    guest_reports: String,
    /// How many events the trace lacks, because an interrupt caused them while another eBPF program was running on that CPU
    /// (docs/json.md, `missed`). `None`: before Linux 6.7, nothing counts them.
    missed: Option<u64>,
}

/// Runs the guests under `trace`.
fn run_trace() -> Result<Trace, Failed> {
    let file = TempFile::new("event-text");
    let output = collector_command()
        .arg("trace")
        // With --strict, lost and missed events cause an exit code other than 0.
        .args((!INTERRUPTS_HAVE_EVENTS).then_some("--strict"))
        .args(["-e", "*", "--ring", "64M", "-o"])
        .arg(file.path())
        .args(["--", "sh", "-ec", &guest_script()])
        .output()?;
    if !output.status.success() {
        return Err(format!("trace: {output:?}").into());
    }
    let summary = String::from_utf8_lossy(&output.stderr);
    ensure_equal(
        "lost",
        number_before(&summary, " events lost").or(number_before(&summary, " event lost")),
        Some(0),
    )?;
    let missed = number_before(&summary, " events missed");
    let missed = missed.or(number_before(&summary, " event missed"));
    Ok(Trace {
        text: fs::read_to_string(file.path())?,
        guest_reports: String::from_utf8_lossy(&output.stdout).into_owned(),
        missed: (kernel_counts_misses()? || !INTERRUPTS_HAVE_EVENTS).then(|| missed.unwrap_or(0)),
    })
}

/// Returns the number that stands before these words, such as 1200 in `1,200 events lost`.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let (before, _) = text.split_once(words)?;
    let number = before.rsplit(' ').next()?;
    number.replace(',', "").parse().ok()
}

/// Returns a shell script that runs all guests.
fn guest_script() -> String {
    let program = collector_command();
    let program = program.get_program().to_string_lossy();
    GUESTS
        .iter()
        .chain(has_exit_events().then_some(&GUEST_WITH_HYPERCALL))
        .map(|guest| format!("timeout 120 {program} guest --json {guest}\n"))
        .collect()
}

/// Returns the ids of all threads of the guests: the vCPU threads and the main threads.
fn guest_threads(reports: &str) -> Result<BTreeSet<u32>, Failed> {
    let mut threads = BTreeSet::new();
    for report in reports.lines() {
        let report: serde_json::Value = serde_json::from_str(report)?;
        let vms = report["vms"].as_array().ok_or("a guest without VMs")?;
        let vcpus = vms.iter().filter_map(|vm| vm["vcpus"].as_array()).flatten();
        let tids = vcpus.map(|vcpu| &vcpu["tid"]).chain([&report["pid"]]);
        for tid in tids {
            threads.insert(u32::try_from(tid.as_u64().ok_or("no thread id")?)?);
        }
    }
    Ok(threads)
}

/// Parses the lines of these threads. In the events of `hashes`, pointers are extracted.
fn parse_by_thread(
    text: &str,
    threads: &BTreeSet<u32>,
    hashes: &BTreeSet<String>,
) -> Result<BTreeMap<u32, Vec<TraceLine>>, Failed> {
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let all = text.split_terminator('\n');
    for text in all.filter(|text| !text.starts_with('#')) {
        let mut line =
            TraceLine::parse(text).ok_or_else(|| format!("not a line of a trace: `{text}`"))?;
        if hashes.contains(&line.event) {
            line.extract_pointers();
        }
        if threads.contains(&line.tid) {
            lines.entry(line.tid).or_default().push(line);
        }
    }
    Ok(lines)
}

/// The differences between our lines and those of ftrace.
#[derive(Debug, Default)]
struct Comparison {
    /// How many events the trace lacks; `None` if that is not known.
    missed: Option<u64>,
    /// A thread may move between the two records of an event: Linux 7 preempts kernel code everywhere.
    may_move: bool,
    /// The number of equal lines, by event.
    equal: BTreeMap<String, u64>,
    /// Lines without a counterpart in the other recording.
    only_ours: Vec<TraceLine>,
    only_theirs: Vec<TraceLine>,
    /// The number of equal lines that are in a different order.
    reordered: u64,
    /// The number of equal lines that were recorded on different CPUs.
    moved: u64,
    /// The largest difference between the timestamps of an event.
    max_time_difference_ns: u64,
    /// The hash of each pointer.
    hashes: BTreeMap<String, String>,
    /// The number of pointers with a hash other than their first one.
    changed_hashes: u64,
}

impl Comparison {
    /// Compares the lines of one thread.
    fn compare_thread(&mut self, ours: Vec<TraceLine>, theirs: Vec<TraceLine>) {
        let mut theirs = VecDeque::from(theirs);
        let max_distance = match self.missed {
            Some(0) => MAX_DISTANCE,
            Some(_) | None => MAX_MISSED,
        };
        for line in ours {
            let found = theirs
                .iter()
                .take(max_distance)
                .position(|other| line.matches(other));
            let Some(other) = found.and_then(|at| theirs.remove(at)) else {
                self.only_ours.push(line);
                continue;
            };
            self.reordered += u64::from(found != Some(0));
            self.moved += u64::from(line.cpu != other.cpu);
            self.max_time_difference_ns = self
                .max_time_difference_ns
                .max(line.time_ns.abs_diff(other.time_ns));
            for (pointer, hash) in line.pointers.into_iter().zip(other.pointers) {
                let known = self.hashes.entry(pointer).or_insert_with(|| hash.clone());
                self.changed_hashes += u64::from(*known != hash);
            }
            *self.equal.entry(line.event).or_default() += 1;
        }
        self.only_theirs.extend(theirs);
    }

    fn print(&self) {
        println!("\ntrace_text_equals_ftrace: equal lines");
        for (event, count) in &self.equal {
            println!("  {event:32} {count:>8}");
        }
        let lines: u64 = self.equal.values().sum();
        println!(
            "  {} events, {lines} lines; {} in a different order; times differ by at most {} µs",
            self.equal.len(),
            self.reordered,
            self.max_time_difference_ns / 1000
        );
    }

    /// Fails if there are differences, or too few events to find any.
    fn check(&self) -> Result<(), Failed> {
        const MAX_PRINTED: usize = 20;
        let list = |lines: &[TraceLine]| -> String {
            let printed = lines.iter().take(MAX_PRINTED);
            printed.map(|line| format!("\n  {line}")).collect()
        };
        let lines: u64 = self.equal.values().sum();
        // Some of the missed events may be those of other threads.
        let max_missed = self.missed.unwrap_or(lines / 200);
        let misses = self.only_theirs.len() as u64 > max_missed;
        if !self.only_ours.is_empty() || misses {
            return Err(format!(
                "{} lines only in the trace:{}\n{} lines only in ftrace:{}",
                self.only_ours.len(),
                list(&self.only_ours),
                self.only_theirs.len(),
                list(&self.only_theirs),
            )
            .into());
        }
        if self.changed_hashes > 0 {
            return Err(format!("{} pointers have different hashes", self.changed_hashes).into());
        }
        // Behind a missed line, those of ftrace are one place further.
        if self.only_theirs.is_empty() && self.reordered * 100 > lines {
            return Err(format!(
                "{} of {lines} lines are in a different order",
                self.reordered
            )
            .into());
        }
        let max_moved = if self.may_move { lines / 100 } else { 0 };
        if self.moved > max_moved {
            return Err(format!("{} of {lines} lines have different CPUs", self.moved).into());
        }
        if self.equal.len() < MIN_EVENTS {
            return Err(format!("only {} different events", self.equal.len()).into());
        }
        Ok(())
    }
}
