//! The collector runs in a time namespace, or the clock of the machine changes.

use std::{
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use kvm_collector::host::clock::{monotonic_ns, real_and_monotonic_ns};
use libtest_mimic::Failed;

use super::{EVENT, collector_with, start_endless_guest};
use crate::{
    check::{ensure, get_list, get_number},
    container::command_in_namespaces,
    guest::Guest,
    process::{FinishedProcess, run_collector, run_command},
    requirements::collector_command,
    temp_files::TempFile,
};

/// Returns an offset with which the clock starts at about 0, as in a container with a short uptime.
pub(super) fn offset_of_short_uptime() -> Result<i64, Failed> {
    Ok(1 - i64::try_from(monotonic_ns() / 1_000_000_000)?)
}

/// Runs a command in a time namespace with an offset. Returns its output, and the time range in which it ran, outside of the
/// namespace.
fn run_with_offset(
    seconds: i64,
    command: &Command,
) -> Result<(FinishedProcess, std::ops::RangeInclusive<u64>), Failed> {
    let before_ns = monotonic_ns();
    let output = run_command(&mut command_in_namespaces(
        &format!("time clock={seconds}"),
        command,
    )?)?;
    Ok((output.expect_code(0)?, before_ns..=monotonic_ns()))
}

pub(super) fn event_times(seconds: i64) -> Result<(), Failed> {
    let guest = start_endless_guest(collector_command(), "web")?;
    let selected = &[EVENT, &["-p", &guest.pid, "-d", "500ms"]].concat();
    let (trace, expected) =
        run_with_offset(seconds, &collector_with(&["trace", "--json"], selected))?;
    let lines = trace.json()?;
    ensure(!lines.is_empty(), || "no events".into())?;
    for line in &lines {
        let time_ns = get_number(line, "time_ns")?;
        ensure(expected.contains(&time_ns), || {
            format!("{time_ns} is not within {expected:?}")
        })?;
    }
    // With `--time wall`, lines have the date and time.
    let real_ns = || real_and_monotonic_ns().0;
    let start_ns = real_ns();
    let (trace, _) = run_with_offset(
        seconds,
        &collector_with(&["trace", "--time", "wall"], selected),
    )?;
    let recording = TempFile::new("clock");
    let record = collector_with(&["record", "-o", recording.arg()?], selected);
    run_with_offset(seconds, &record)?;
    let end_ns = real_ns();
    let recorded = ["trace", "--time", "wall", "-i", recording.arg()?];
    for output in [trace, run_collector(&recorded)?.expect_code(0)?] {
        let times = parse_wall_times(&output.stdout)?;
        ensure(!times.is_empty(), || "no events".into())?;
        for wall_ns in times {
            ensure((start_ns..=end_ns).contains(&wall_ns), || {
                format!("{wall_ns} is not within {start_ns} and {end_ns}")
            })?;
        }
    }
    let (stat, _) = run_with_offset(seconds, &collector_with(&["stat", "--json"], selected))?;
    let elapsed_ns = get_number(&stat.report()?, "elapsed_ns")?;
    ensure(elapsed_ns < 10_000_000_000, || {
        format!("{elapsed_ns} ns of half a second")
    })
}

/// Returns the wall time of each line, in ns since 1970.
fn parse_wall_times(lines: &str) -> Result<Vec<u64>, Failed> {
    let parse_line = |line: &str| {
        let (_, rest) = line.split_once("] ").ok_or("no time")?;
        let time = rest.split(": ").next().ok_or("no time")?;
        let since = humantime::parse_rfc3339(time)?.duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(u64::try_from(since.as_nanos())?)
    };
    lines.lines().map(parse_line).collect()
}

pub(super) fn exit_times() -> Result<(), Failed> {
    // The vCPU is out of the guest nearly all the time, so shares that are too large exceed 100 %.
    let halted = ["-k", "timer", "--timer", "20ms", "-n", "100000000"];
    let mut guest = Guest::prepare(&[&["--name", "web"], &halted[..]].concat())?;
    guest.start()?;
    for seconds in [100_000, offset_of_short_uptime()?] {
        let selected = &["-p", &guest.pid, "-d", "1s"];
        let (exits, _) = run_with_offset(
            seconds,
            &collector_with(&["exits", "--json", "--by", "vm"], selected),
        )?;
        let report = exits.report()?;
        let elapsed_ns = get_number(&report, "elapsed_ns")?;
        let row = &get_list(&report, "rows")?[0];
        let total_ns = get_number(row, "total_ns")?;
        ensure((1..=elapsed_ns).contains(&total_ns), || {
            format!("{total_ns} ns of one vCPU in {elapsed_ns} ns")
        })?;
        let (top, _) = run_with_offset(seconds, &collector_with(&["top", "--once"], selected))?;
        let mut shares = 0;
        for word in top.stdout.split_whitespace() {
            let Some(share) = word
                .strip_suffix('%')
                .and_then(|share| share.parse::<f64>().ok())
            else {
                continue;
            };
            shares += 1;
            ensure(share <= 100.0, || format!("{share} %: {}", top.stdout))?;
        }
        ensure(shares >= 3, || top.stdout)?;
    }
    Ok(())
}

/// Sets the clock of the machine.
fn set_clock(real_ns: u64) -> Result<(), Failed> {
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(real_ns / 1_000_000_000)?,
        tv_nsec: i64::try_from(real_ns % 1_000_000_000)?,
    };
    Ok(rustix::time::clock_settime(
        rustix::time::ClockId::Realtime,
        time,
    )?)
}

pub(super) fn clock_change() -> Result<(), Failed> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let guest = start_endless_guest(collector_command(), "web")?;
    let trace = collector_with(
        &["trace", "--time", "wall", "-p", &guest.pid, "-d", "3s"],
        EVENT,
    );
    let setting = thread::spawn(|| {
        thread::sleep(Duration::from_secs(2));
        let real_ns = real_and_monotonic_ns().0;
        set_clock(real_ns + HOUR_NS).map_err(|error| format!("{error:?}"))
    });
    let output = run_command(&mut { trace });
    setting
        .join()
        .map_err(|_| "the thread that sets the clock panicked")??;
    set_clock(real_and_monotonic_ns().0 - HOUR_NS)?;
    let times = parse_wall_times(&output?.expect_code(0)?.stdout)?;
    let (first, last) = (
        times.first().ok_or("no events")?,
        times.last().ok_or("no events")?,
    );
    let passed_ns = last.saturating_sub(*first);
    ensure(
        (HOUR_NS..HOUR_NS + 60_000_000_000).contains(&passed_ns),
        || format!("{passed_ns} ns passed"),
    )
}
