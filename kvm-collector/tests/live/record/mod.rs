//! Recordings of real events: what `record` writes, perf reads; what perf writes, we read; whatever ends the recording.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_number},
    guest::Guest,
    process::{FinishedProcess, run_collector, run_command},
    requirements::{Requirement, collector_command, test},
    running_collector::RunningCollector,
    temp_files::TempDir,
    trace_line::TraceLine,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const WITH_PERF: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Perf,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("record_is_trace_later", REQUIREMENTS, is_trace_later),
        test("record_is_stat_later", REQUIREMENTS, is_stat_later),
        test("record_killed_can_be_read", REQUIREMENTS, killed),
        test("record_on_a_full_disk", REQUIREMENTS, full_disk),
        test("record_rotates", REQUIREMENTS, rotates),
        test("record_flight_recorder_signal", REQUIREMENTS, flight_signal),
        test(
            "record_flight_recorder_trigger",
            &[
                Requirement::Root,
                Requirement::Kvm,
                Requirement::ExitEvents,
                Requirement::Tracefs,
            ],
            flight_trigger,
        ),
        test("record_is_read_by_perf_script", WITH_PERF, perf_script),
        test("record_killed_is_read_by_perf", WITH_PERF, killed_perf),
        test(
            "record_is_read_by_perf_kvm_stat",
            &[
                Requirement::Root,
                Requirement::Kvm,
                Requirement::ExitEvents,
                Requirement::Tracefs,
                Requirement::Perf,
            ],
            perf_kvm_stat,
        ),
        test("perf_record_is_read", WITH_PERF, of_perf),
    ]
}

/// A trace of a recording, all of it there.
fn whole(file: &str, args: &[&str]) -> Result<FinishedProcess, Failed> {
    run_collector(&[&["trace", "--strict", "-i", file], args].concat())?.expect_code(0)
}

fn lines(text: &str) -> Result<Vec<TraceLine>, Failed> {
    text.lines()
        .map(|line| TraceLine::parse(line).ok_or_else(|| format!("no event: `{line}`").into()))
        .collect()
}

/// What happened in each thread, in order. The times of two recordings of one event differ: each reads the clock itself.
fn by_thread(lines: &[TraceLine]) -> BTreeMap<u32, Vec<String>> {
    let mut threads: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in lines {
        threads
            .entry(line.tid)
            .or_default()
            .push(format!("{} {}: {}", line.cpu, line.event, line.text));
    }
    threads
}

/// The same events, counted by `stat` and recorded at once.
fn is_stat_later() -> Result<(), Failed> {
    let folder = TempDir::new("stat")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "500", "--vcpus", "2"])?;
    let of_vm = ["--json", "--per-vm", "-p", &guest.pid.clone()];
    let live = RunningCollector::start(&[&["stat"][..], &of_vm].concat())?;
    let record = RunningCollector::start(&["record", "--strict", "-p", of_vm[3], "-o", &file])?;
    guest.run()?;
    record.end()?.expect_code(0)?;
    let live = live.end()?.expect_code(0)?.report()?;
    let later = run_collector(&[&["stat", "-i", &file][..], &of_vm].concat())?;
    let later = later.expect_code(0)?.report()?;
    let counts = |report: &Value| {
        let events = report["events"].as_array().into_iter().flatten();
        let counts = events.map(|it| Ok((it["event"].to_string(), get_number(it, "count")?)));
        let counts: BTreeMap<_, _> = counts.collect::<Result<_, Failed>>()?;
        Ok::<_, Failed>(counts.into_iter().filter(|it| it.1 > 0).collect::<Vec<_>>())
    };
    ensure(counts(&live)?.len() > 3, || {
        format!("too few events: {live}")
    })?;
    ensure_equal("events", counts(&later)?, counts(&live)?)?;
    ensure_equal(
        "of the VM",
        counts(&later["vms"][0])?,
        counts(&live["vms"][0])?,
    )
}

/// The same events, watched by `trace` and recorded at once.
fn is_trace_later() -> Result<(), Failed> {
    let folder = TempDir::new("later")?;
    for (name, options) in [("plain", &[][..]), ("packed", &["-z"])] {
        let file = folder.file(name);
        let guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "500", "--vcpus", "2"])?;
        let pid = guest.pid.clone();
        let live = RunningCollector::start(&["trace", "--strict", "-p", &pid])?;
        let args = [&["record", "--strict", "-p", &pid, "-o", &file], options].concat();
        let record = RunningCollector::start(&args)?;
        let made = guest.run()?;
        let live = live.end()?.expect_code(0)?;
        record
            .end()?
            .expect_code(0)?
            .expect_message(&["events recorded to"])?;
        let later = whole(&file, &[])?;
        let (live, later) = (lines(&live.stdout)?, lines(&later.stdout)?);
        let exits = |lines: &[TraceLine]| {
            lines
                .iter()
                .filter(|it| it.event == "kvm_userspace_exit")
                .count() as u64
        };
        ensure_equal(
            "userspace exits recorded",
            exits(&later),
            made.userspace_exits()?,
        )?;
        let (live, later) = (by_thread(&live), by_thread(&later));
        for (tid, events) in &live {
            ensure(later.get(tid) == Some(events), || {
                format!(
                    "thread {tid} did {} things, and others are recorded",
                    events.len()
                )
            })?;
        }
        ensure_equal("threads", later.len(), live.len())?;
        // As a stream, and counted.
        let stat = run_collector(&["stat", "--json", "--strict", "-i", &file])?
            .expect_code(0)?
            .report()?;
        let total: u64 = crate::check::get_list(&stat, "events")?
            .iter()
            .filter_map(|it| it["count"].as_u64())
            .sum();
        ensure_equal(
            "events counted",
            total,
            later.values().map(Vec::len).sum::<usize>() as u64,
        )?;
    }
    Ok(())
}

/// A recording that is killed while a guest runs: its file, and how often the guest went to user space before.
fn kill_one(file: &str) -> Result<u64, Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let record = RunningCollector::start(&["record", "-o", file])?;
    let made = guest.run()?;
    // It writes five times a second.
    thread::sleep(Duration::from_secs(1));
    let ended = record.kill()?;
    ensure_equal("the exit code of who was killed", ended.code, None)?;
    made.userspace_exits()
}

fn killed() -> Result<(), Failed> {
    let folder = TempDir::new("killed")?;
    let file = folder.file("kvm.data");
    let made = kill_one(&file)?;
    let trace = run_collector(&["trace", "-e", "kvm_userspace_exit", "-i", &file])?
        .expect_code(0)?
        .expect_message(&[
            "is incomplete",
            "not finished",
            "only the events before that are used",
        ])?;
    let count = lines(&trace.stdout)?.len() as u64;
    ensure(count >= made, || {
        format!("{count} of {made} events are there")
    })?;
    run_collector(&["trace", "--strict", "-i", &file])?.expect_code(3)?;
    Ok(())
}

fn killed_perf() -> Result<(), Failed> {
    let folder = TempDir::new("killed-perf")?;
    let file = folder.file("kvm.data");
    let made = kill_one(&file)?;
    let text = run_command(Command::new("perf").args(["script", "-i", &file]))?
        .expect_code(0)?
        .stdout;
    let count = text
        .lines()
        .filter(|it| it.contains("kvm:kvm_userspace_exit: "))
        .count() as u64;
    ensure(count >= made, || {
        format!("perf shows {count} of {made} events")
    })
}

/// A tmpfs, gone when dropped.
struct Tmpfs<'a>(&'a Path);

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::empty());
    }
}

fn full_disk() -> Result<(), Failed> {
    let folder = TempDir::new("full")?;
    let size = std::ffi::CString::new("size=1m")?;
    rustix::mount::mount(
        "tmpfs",
        folder.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        size.as_c_str(),
    )?;
    let _mounted = Tmpfs(folder.path());
    // Packed, the events would need seconds to fill it, in which a busy machine loses too many of them: most of it is full.
    for (options, ballast) in [(&[][..], 0), (&["-z"], 768 << 10)] {
        fs::write(folder.file("ballast"), vec![0; ballast])?;
        let file = folder.file("kvm.data");
        let guest = Guest::prepare(&["-k", "io", "-n", "100000"])?;
        let record = RunningCollector::start(&[&["record", "-o", &file], options].concat())?;
        guest.run()?;
        let ended = record.end()?.expect_code(1)?.expect_message(&[
            "events recorded to",
            "ended early",
            "No space left",
        ])?;
        let said: usize = ended
            .stderr
            .split("kvm-collector: ")
            .find_map(|it| it.split_once(" events recorded")?.0.parse().ok())
            .ok_or("no number")?;
        let shown = lines(&whole(&file, &[])?.stdout)?.len();
        ensure_equal("events in the file", shown, said)?;
        ensure(shown > 1000, || format!("only {shown} events"))?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

fn rotates() -> Result<(), Failed> {
    let folder = TempDir::new("rotates")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "50000"])?;
    let options = ["--max-size", "4M", "--rotate", "2"];
    let record =
        RunningCollector::start(&[&["record", "--strict", "-o", &file], &options[..]].concat())?;
    guest.run()?;
    record
        .end()?
        .expect_code(0)?
        .expect_message(&["files, the last one is"])?;
    for file in [&file, &format!("{file}.1")] {
        let length = fs::metadata(file)?.len();
        ensure(length <= 4 << 20, || format!("{file} has {length} bytes"))?;
        whole(file, &[])?;
    }
    ensure(!Path::new(&format!("{file}.2")).exists(), || {
        "a file too many".to_owned()
    })
}

fn flight_signal() -> Result<(), Failed> {
    let folder = TempDir::new("flight")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "1000"])?;
    let record = RunningCollector::start(&["record", "--flight-recorder", "60s", "-o", &file])?;
    let made = guest.run()?;
    thread::sleep(Duration::from_millis(300));
    ensure(!Path::new(&file).exists(), || {
        "written before the signal".to_owned()
    })?;
    record.signal(Signal::USR1)?;
    thread::sleep(Duration::from_millis(500));
    let text = whole(&file, &["-e", "kvm_userspace_exit"])?.stdout;
    let pid: u32 = text.lines().count().try_into()?;
    ensure(u64::from(pid) >= made.userspace_exits()?, || {
        format!("{pid} events")
    })?;
    record.end()?.expect_code(0)?;
    Ok(())
}

fn flight_trigger() -> Result<(), Failed> {
    let folder = TempDir::new("trigger")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io", "-n", "5", "--sleep", "300ms"])?;
    let args = [
        "record",
        "--flight-recorder",
        "10s",
        "--trigger",
        "exit > 250ms",
        "-p",
        &guest.pid,
        "-o",
        &file,
    ];
    let record = RunningCollector::start(&args)?;
    guest.run()?;
    record
        .end()?
        .expect_code(0)?
        .expect_message(&["wrote the last events to", " 0 lost"])?;
    let text = whole(&file, &["--min-duration", "250ms", "--per-exit"])?.stdout;
    ensure(!text.is_empty(), || {
        "the exit that fired is not in the file".to_owned()
    })
}

/// A line of `perf script` in our layout: `comm tid [cpu] time: system:event: text`.
fn of_perf_script(line: &str) -> Option<TraceLine> {
    let (before, rest) = line.split_once("] ")?;
    let (thread, cpu) = before.rsplit_once(" [")?;
    let (comm, tid) = thread.trim_end().rsplit_once(' ')?;
    let (time, rest) = rest.trim_start().split_once(": ")?;
    let (_, event) = rest.trim_start().split_once(':')?;
    TraceLine::parse(&format!("{}-{tid} [{cpu}] {time}: {event}", comm.trim()))
}

/// The events that libtraceevent prints like the kernel.
const PLAIN: [&str; 4] = ["kvm_userspace_exit", "kvm_pio", "kvm_msr", "kvm_fpu"];

/// perf's lines and ours of one file are of the same events, in the same order, and in the same words where perf has the
/// kernel's.
fn compare(ours: &str, perfs: &str) -> Result<(), Failed> {
    let ours = lines(ours)?;
    let perfs: Vec<_> = perfs
        .lines()
        .map(|line| of_perf_script(line).ok_or_else(|| format!("no event: `{line}`")))
        .collect::<Result<_, _>>()?;
    ensure_equal("lines", ours.len(), perfs.len())?;
    let mut plain = 0;
    for (ours, perfs) in ours.iter().zip(&perfs) {
        let key = |line: &TraceLine| (line.tid, line.cpu, line.time_ns, line.event.clone());
        ensure(key(ours) == key(perfs), || {
            format!("ours: {ours}\nperf's: {perfs}")
        })?;
        if PLAIN.contains(&ours.event.as_str()) {
            plain += 1;
            ensure(ours.text.trim_end() == perfs.text.trim_end(), || {
                format!("ours: {ours}\nperf's: {perfs}")
            })?;
        }
    }
    ensure(plain > 500, || {
        format!("only {plain} lines of plain events")
    })
}

fn perf_script() -> Result<(), Failed> {
    let folder = TempDir::new("perf-script")?;
    for (name, options) in [("plain", &[][..]), ("packed", &["-z"])] {
        let file = folder.file(name);
        let guest = Guest::prepare(&["-k", "io,cpuid,mmio,msr", "-n", "500", "--vcpus", "2"])?;
        let record =
            RunningCollector::start(&[&["record", "--strict", "-o", &file], options].concat())?;
        guest.run()?;
        record.end()?.expect_code(0)?;
        let ours = whole(&file, &[])?.stdout;
        let perf = run_command(Command::new("perf").args(["script", "-i", &file]))?;
        compare(&ours, &perf.expect_code(0)?.stdout)?;
    }
    Ok(())
}

fn perf_kvm_stat() -> Result<(), Failed> {
    let folder = TempDir::new("perf-kvm")?;
    let file = folder.file("kvm.data");
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "300"])?;
    let record = RunningCollector::start(&["record", "--strict", "-p", &guest.pid, "-o", &file])?;
    let made = guest.run()?;
    record.end()?.expect_code(0)?;
    let perf = run_command(Command::new("perf").args(["kvm", "-i", &file, "stat", "report"]))?;
    // It prints on stderr where there is no terminal.
    let perf = perf.expect_code(0)?;
    let text = format!("{}{}", perf.stdout, perf.stderr);
    let exits = made.exits_by_name()?;
    for (reason, count) in exits.iter().filter(|it| *it.1 > 100) {
        let found = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(reason)).then(|| words.next()?.parse::<u64>().ok())?
        });
        // perf times an exit when the next entry comes, which the last has not.
        ensure(
            found.is_some_and(|it| it == *count || it + 1 == *count),
            || format!("perf has {found:?} {reason}, the guest made {count}: {text}"),
        )?;
    }
    Ok(())
}

/// What perf writes: to a file, compressed, as a stream.
fn of_perf() -> Result<(), Failed> {
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
        ("packed", &["-z"]),
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
        if name == "packed" && ours.code == Some(3) {
            // perf 6.1 forgets what its compressor has not given out when the last record is full: the end is missing for perf too.
            ours = ours.expect_message(&["a compressed record is cut off"])?;
        } else {
            ours = ours.expect_code(0)?;
        }
        compare(&ours.stdout, &perf.expect_code(0)?.stdout)?;
        let wall = run_collector(&["trace", "--time", "wall", "-i", &file])?;
        wall.expect_code(i32::from(name != "mono"))?;
    }
    let stream = format!(
        "perf record -q -a -e kvm:kvm_userspace_exit -o - -- {program} {} | {program} trace --strict -i - -e kvm_userspace_exit",
        guest.join(" "),
        program = program.get_program().display(),
    );
    let ended = run_command(Command::new("sh").args(["-c", &stream]))?.expect_code(0)?;
    let count = lines(&ended.stdout)?.len();
    ensure(count > 2000, || {
        format!("{count} events came through the pipe")
    })
}
