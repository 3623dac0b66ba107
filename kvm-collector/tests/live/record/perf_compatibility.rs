//! perf reads recordings of `record`, and the collector reads recordings of perf.

use std::process::Command;

use libtest_mimic::Failed;

use super::{parse_lines, trace_complete};
use crate::{
    check::{ensure, ensure_equal},
    guest::Guest,
    process::{run_collector, run_command},
    requirements::collector_command,
    running_collector::RunningCollector,
    temp_files::TempDir,
    trace_line::TraceLine,
};

/// Parses a line of `perf script`, such as `comm tid [cpu] time: system:event: text`.
fn parse_perf_script_line(line: &str) -> Option<TraceLine> {
    let (before, rest) = line.split_once("] ")?;
    let (thread, cpu) = before.rsplit_once(" [")?;
    let (comm, tid) = thread.trim_end().rsplit_once(' ')?;
    let (time, rest) = rest.trim_start().split_once(": ")?;
    let (_, event) = rest.trim_start().split_once(':')?;
    TraceLine::parse(&format!("{}-{tid} [{cpu}] {time}: {event}", comm.trim()))
}

/// The events that libtraceevent prints like the kernel.
const SAME_TEXT_EVENTS: [&str; 4] = ["kvm_userspace_exit", "kvm_pio", "kvm_msr", "kvm_fpu"];

/// Fails unless `trace` and `perf script` print the same events of a file in the same order, with the same text for
/// [`SAME_TEXT_EVENTS`].
fn compare_with_perf_script(ours: &str, theirs: &str) -> Result<(), Failed> {
    let ours = parse_lines(ours)?;
    let theirs: Vec<_> = theirs
        .lines()
        .map(|line| {
            parse_perf_script_line(line).ok_or_else(|| format!("not a line of a trace: `{line}`"))
        })
        .collect::<Result<_, _>>()?;
    ensure_equal("lines", ours.len(), theirs.len())?;
    let mut compared_texts = 0;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let key = |line: &TraceLine| (line.tid, line.cpu, line.time_ns, line.event.clone());
        ensure(key(ours) == key(theirs), || {
            format!("ours: {ours}\nperf: {theirs}")
        })?;
        if SAME_TEXT_EVENTS.contains(&ours.event.as_str()) {
            compared_texts += 1;
            ensure(ours.text.trim_end() == theirs.text.trim_end(), || {
                format!("ours: {ours}\nperf: {theirs}")
            })?;
        }
    }
    ensure(compared_texts > 500, || {
        format!("only {compared_texts} texts were compared")
    })
}

pub(super) fn perf_script() -> Result<(), Failed> {
    let folder = TempDir::new("perf-script")?;
    for (name, options) in [("plain", &[][..]), ("compressed", &["-z"])] {
        let file = folder.file(name);
        let guest = Guest::prepare(&["-k", "io,cpuid,mmio,msr", "-n", "500", "--vcpus", "2"])?;
        let record =
            RunningCollector::start(&[&["record", "--strict", "-o", &file], options].concat())?;
        guest.run()?;
        record.end()?.expect_code(0)?;
        let ours = trace_complete(&file, &[])?.stdout;
        let perf = run_command(Command::new("perf").args(["script", "-i", &file]))?;
        compare_with_perf_script(&ours, &perf.expect_code(0)?.stdout)?;
    }
    Ok(())
}

pub(super) fn perf_kvm_stat() -> Result<(), Failed> {
    let folder = TempDir::new("perf-kvm")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "300"])?;
    let record = RunningCollector::start(&["record", "--strict", "-p", &guest.pid, "-o", &file])?;
    let guest = guest.run()?;
    record.end()?.expect_code(0)?;
    let perf = run_command(Command::new("perf").args(["kvm", "-i", &file, "stat", "report"]))?;
    // Without a terminal, perf prints to stderr.
    let perf = perf.expect_code(0)?;
    let text = format!("{}{}", perf.stdout, perf.stderr);
    let exits = guest.exits_by_name()?;
    for (reason, count) in exits.iter().filter(|(_, count)| **count > 100) {
        let found = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(reason)).then(|| words.next()?.parse::<u64>().ok())?
        });
        // perf counts an exit at the next entry. The last exit has none.
        ensure(
            found.is_some_and(|found| found == *count || found + 1 == *count),
            || format!("perf has {found:?} {reason}, the guest reports {count}: {text}"),
        )?;
    }
    Ok(())
}

/// `trace` reads what perf writes to a file, compressed to a file, and to a pipe.
pub(super) fn perf_recordings() -> Result<(), Failed> {
    let folder = TempDir::new("of-perf")?;
    let program = collector_command();
    let guest = [
        "guest",
        "-k",
        "io,cpuid,mmio,msr",
        "-n",
        "500",
        "--vcpus",
        "2",
    ];
    for (name, options) in [
        ("plain", &[][..]),
        ("compressed", &["-z"]),
        ("mono", &["-k", "mono"]),
    ] {
        let file = folder.file(name);
        let mut perf = Command::new("perf");
        perf.args([
            "record", "-q", "-a", "-m", "1024", "-e", "kvm:*", "-o", &file,
        ])
        .args(options);
        perf.arg("--").arg(program.get_program()).args(guest);
        run_command(&mut perf)?.expect_code(0)?;
        let perf = run_command(Command::new("perf").args(["script", "-i", &file]))?;
        let mut ours = run_collector(&["trace", "--strict", "-i", &file])?;
        if name == "compressed" && ours.code == Some(3) {
            // perf 6.1 drops the pending output of its compressor when the last record is full, so `perf script` lacks the
            // end as well.
            ours = ours.expect_message(&["a compressed record is cut off"])?;
        } else {
            ours = ours.expect_code(0)?;
        }
        compare_with_perf_script(&ours.stdout, &perf.expect_code(0)?.stdout)?;
        let wall = run_collector(&["trace", "--time", "wall", "-i", &file])?;
        wall.expect_code(if name == "mono" { 0 } else { 2 })?;
    }
    let stream = format!(
        "perf record -q -a -e kvm:kvm_userspace_exit -o - -- {program} {} | {program} trace --strict -i - -e kvm_userspace_exit",
        guest.join(" "),
        program = program.get_program().display(),
    );
    let output = run_command(Command::new("sh").args(["-c", &stream]))?.expect_code(0)?;
    let count = parse_lines(&output.stdout)?.len();
    ensure(count > 2000, || {
        format!("{count} events came through the pipe")
    })
}
