//! Tests in which the collector's output is not read for a long time, or never.

use std::{
    fs::{self},
    thread::{self},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::{
    MANY_ITERATIONS, SMALL_BUFFERS, check_delay,
    load::{Load, check_all_accounted, check_all_accounted_in},
    memory_limit::MemoryLimit,
    slow_reader::{SlowDisk, Speed, wait_until_blocked_on_pipe},
};
use crate::{
    check::{ensure, ensure_equal, get_list},
    counts::event_count,
    guest::Guest,
    process::{FinishedProcess, run_collector},
    running_collector::RunningCollector,
    small_ring::{EventCounts, count_delivered_and_lost},
    temp_files::TempDir,
};

/// The output is not read for so long that the buffer becomes full. Lost events are counted, and all others are written once
/// the output is read again.
pub(super) fn stopped_output() -> Result<(), Failed> {
    let folder = TempDir::new("stopped-output")?;
    let file = folder.file("kvm.data");
    for args in [&["trace", "--json"][..], &["record"]] {
        let disk = SlowDisk::new("stopped")?;
        let load = Load::prepare(MANY_ITERATIONS)?;
        let collector =
            disk.start_collector(&[args, SMALL_BUFFERS, &["-p", &load.pid()]].concat())?;
        let memory = MemoryLimit::new(collector.pid())?;
        disk.reader.set_speed(Speed::Stopped);
        let load_report = load.run()?;
        wait_until_blocked_on_pipe(collector.pid())?;
        memory.check()?;
        disk.reader.set_speed(Speed::Unlimited);
        collector.end()?.expect_code(0)?;
        let written = disk.reader.join()?;
        if args == ["record"] {
            fs::write(&file, written)?;
            check_all_accounted_in(&file, &load_report)?;
        } else {
            let output = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
            check_all_accounted(&output, &load_report)?;
        }
    }
    Ok(())
}

/// A VM that starts and ends while the output blocks is still selected by its name, and the names of its threads are known.
pub(super) fn names_while_output_blocks() -> Result<(), Failed> {
    for args in [&["trace", "--json"][..], &["record"]] {
        let folder = TempDir::new("names")?;
        let disk = SlowDisk::new("names")?;
        // The events of the first VM are larger than the buffer of the pipe.
        let first = Guest::prepare(&["-k", "io", "-n", MANY_ITERATIONS])?;
        let vm = format!("kvm-collector-{}", first.pid);
        let few = ["-e", "kvm_userspace_exit", "--vm", &vm, "--vm", "second-*"];
        let collector = disk.start_collector(&[args, &few].concat())?;
        disk.reader.set_speed(Speed::Stopped);
        first.run()?;
        wait_until_blocked_on_pipe(collector.pid())?;
        // The VM runs long enough for the collector, which polls the rings, to read its name.
        let slow = ["--sleep", "2ms", "--name", "second-1"];
        let second = Guest::prepare(&[&["-k", "io", "-n", "100"], &slow[..]].concat())?;
        let pid: u64 = second.pid.parse()?;
        let expected = second.run()?.userspace_exits()?;
        disk.reader.set_speed(Speed::Unlimited);
        collector.end()?.expect_code(0)?;
        let written = disk.reader.join()?;
        let output = if args == ["record"] {
            let file = folder.file("kvm.data");
            fs::write(&file, written)?;
            let stat = run_collector(&["stat", "--json", "--per-vm", "-i", &file])?.report()?;
            let vms = get_list(&stat, "vms")?.iter();
            // A recording that was written to a pipe has no table with VM names, so the names of the processes are used.
            ensure_equal("VMs", vms.count(), 2)?;
            run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?
        } else {
            FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?
        };
        let mut count = 0;
        for line in output.json()? {
            ensure(line["lost"].is_null(), || format!("lost: {line}"))?;
            ensure(line["comm"] != "<...>", || format!("no name: {line}"))?;
            count += u64::from(line["pid"] == pid);
        }
        ensure_equal("events of the second VM", count, expected)?;
    }
    Ok(())
}

/// The collector stops measuring at the signal or after its duration, not when its output is read again.
pub(super) fn end_while_output_blocks() -> Result<(), Failed> {
    for args in [
        &["trace", "--json", "-d", "60s"][..],
        &["trace", "--json", "-d", "500ms"],
        &["record", "-d", "60s"],
        &["record", "-d", "500ms"],
    ] {
        let folder = TempDir::new("end-while-stopped")?;
        let disk = SlowDisk::new("end")?;
        let mut guest = Guest::prepare(&["-k", "io", "-n", "100000000"])?;
        let pid = guest.pid.clone();
        let few = ["-e", "kvm_userspace_exit", "-p", &pid];
        let oracle = RunningCollector::start(&[&["stat", "--json"], &few[..]].concat())?;
        let collector = disk.start_collector(&[args, SMALL_BUFFERS, &few].concat())?;
        disk.reader.set_speed(Speed::Stopped);
        guest.start()?;
        wait_until_blocked_on_pipe(collector.pid())?;
        if args.contains(&"60s") {
            collector.signal(Signal::INT)?;
        }
        // The guest continues to cause events, which must not be recorded any more.
        thread::sleep(Duration::from_millis(1500));
        let all = oracle.end()?.expect_code(0)?.report()?;
        let all = event_count(&all, "kvm:kvm_userspace_exit")?;
        let start = Instant::now();
        disk.reader.set_speed(Speed::Unlimited);
        let finished = collector.wait()?.expect_code(0)?;
        check_delay(start)?;
        let written = disk.reader.join()?;
        let output = if args.contains(&"record") {
            let file = folder.file("kvm.data");
            fs::write(&file, written)?;
            run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?
        } else {
            FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?
        };
        let (delivered, lost) = count_delivered_and_lost(&output)?;
        let sum = |counts: &EventCounts| counts.values().sum::<u64>();
        let (printed, lost) = (sum(&delivered), sum(&lost));
        ensure(printed > 0 && printed + lost < all / 5 * 4, || {
            format!("{args:?}: {printed} printed and {lost} lost of {all}: it did not end in time")
        })?;
        // The summary has the same numbers.
        let text = finished.stderr.replace(',', "");
        let numbers = text.split(|char: char| !char.is_ascii_digit());
        let numbers: Vec<u64> = numbers.filter_map(|digits| digits.parse().ok()).collect();
        ensure(
            numbers.contains(&printed) && numbers.contains(&lost),
            || {
                format!(
                    "{args:?}: {printed} printed and {lost} lost, but the summary has {numbers:?}"
                )
            },
        )?;
        drop(guest);
    }
    Ok(())
}

/// The output is never read again. The first signal cannot end the collector, but the second one does.
pub(super) fn output_never_read() -> Result<(), Failed> {
    // Few events, since the kernel takes up to 75 ms per event to detach the programs of a process that dies.
    let few = "kvm_userspace_exit,kvm_pio";
    for args in [
        &["trace", "--ring", "64K", "--buffer", "2M", "-e", few][..],
        &["record", "--ring", "64K", "--buffer", "2M", "-e", few],
        &["stat", "--json", "-I", "1ms"],
        &["exits", "--json", "--kind", "pio", "-I", "1ms"],
    ] {
        let disk = SlowDisk::new("never")?;
        let load = Load::prepare(MANY_ITERATIONS)?;
        let collector = disk.start_collector(&[args, &["-p", &load.pid()]].concat())?;
        disk.reader.set_speed(Speed::Stopped);
        load.run()?;
        wait_until_blocked_on_pipe(collector.pid())?;
        collector.signal(Signal::TERM)?;
        thread::sleep(Duration::from_millis(700));
        let start = Instant::now();
        ensure_equal(
            "the exit code",
            collector.end_with_signal(Signal::TERM)?.code,
            None,
        )?;
        check_delay(start)?;
        disk.reader.set_speed(Speed::Closed);
    }
    Ok(())
}
