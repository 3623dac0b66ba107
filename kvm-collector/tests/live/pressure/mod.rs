//! Under pressure: a ring that is full, a collector that is stopped, output that nobody takes, CPUs that are busy. Whatever it
//! is: counts stay exact, what was printed and what was lost is together what happened, memory stays bounded, and the guest
//! never waits for the collector.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use rustix::{
    process::Signal,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    counts::event_count,
    exit_reasons,
    exits::counts_by_code,
    guest::{Guest, GuestReport},
    process::{FinishedProcess, join_reader, run_collector},
    pty::Pty,
    requirements::{Requirement, collector_command, test},
    running_collector::RunningCollector,
    small_ring::{EventCounts, count_delivered_and_lost},
    temp_files::TempDir,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const WITH_EXITS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

/// Rounds of a guest: some 100,000 events, whose text is 10 MB.
const MANY: &str = "8000";

/// Small rings, and the smallest buffer for what waits to be written.
const SMALL: &[&str] = &["--ring", "64K", "--buffer", "2M"];

/// How much a collector's memory may grow when its ring is small, whatever it waits for: by the buffer and little more.
const MOST_GROWTH_KIB: u64 = 4 << 10;

/// What ends a collector has ended it within this time, also on a busy machine under emulation.
const SOON: Duration = Duration::from_secs(3);

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("pressure_full_ring", REQUIREMENTS, full_ring),
        test("pressure_stopped_stat", REQUIREMENTS, stopped_stat),
        test("pressure_stopped_exits_of_a_kind", REQUIREMENTS, || {
            stopped_exits(&["--kind", "pio"], |report, made| {
                ensure_equal(
                    "accesses",
                    get_number(report, "count")?,
                    made.operation_count(0, "io")?,
                )
            })
        }),
        test("pressure_stopped_exits", WITH_EXITS, || {
            stopped_exits(&[], |report, made| {
                let exits = exit_reasons::without_host_exits(counts_by_code(report)?);
                ensure_equal("exits per reason", exits, made.exits()?)
            })
        }),
        test("pressure_stopped_trace", REQUIREMENTS, stopped_trace),
        test("pressure_stopped_record", REQUIREMENTS, stopped_record),
        test("pressure_slow_output_of_trace", REQUIREMENTS, slow_trace),
        test("pressure_slow_output_of_record", REQUIREMENTS, slow_record),
        test("pressure_slow_terminal", REQUIREMENTS, slow_terminal),
        test(
            "pressure_stalled_output_of_trace",
            REQUIREMENTS,
            stalled_trace,
        ),
        test(
            "pressure_stalled_output_of_record",
            REQUIREMENTS,
            stalled_record,
        ),
        test(
            "pressure_output_stopped_for_long",
            REQUIREMENTS,
            stopped_output,
        ),
        test(
            "pressure_names_while_output_is_stopped",
            REQUIREMENTS,
            names_while_stopped,
        ),
        test(
            "pressure_end_while_output_is_stopped",
            REQUIREMENTS,
            end_while_stopped,
        ),
        test("pressure_output_never_taken", REQUIREMENTS, never_taken),
        test(
            "pressure_end_asked_for_twice_at_once",
            REQUIREMENTS,
            twice_at_once,
        ),
        test(
            "pressure_top_on_a_dead_terminal",
            REQUIREMENTS,
            dead_terminal,
        ),
        test(
            "pressure_top_of_many_vms_on_a_dead_terminal",
            REQUIREMENTS,
            many_vms,
        ),
        test("pressure_busy_cpus", REQUIREMENTS, busy_cpus),
    ]
}

/// A guest at full rate, and an exact count of all its events beside whoever is tried.
struct Load {
    guest: Guest,
    oracle: RunningCollector,
}

/// What the guest did: by its own account, and by event.
struct Happened {
    made: GuestReport,
    events: EventCounts,
}

impl Load {
    fn prepare(exits: &str) -> Result<Self, Failed> {
        let guest = Guest::prepare(&["-k", "io", "-n", exits])?;
        let oracle = RunningCollector::start(&["stat", "--json", "-p", &guest.pid])?;
        Ok(Self { guest, oracle })
    }

    fn pid(&self) -> String {
        self.guest.pid.clone()
    }

    /// From its start to its end, which waits for nobody who watches.
    fn run(self) -> Result<Happened, Failed> {
        let made = self.guest.run()?;
        let report = self.oracle.end()?.expect_code(0)?.report()?;
        ensure_nothing_lost(&report)?;
        let mut events = EventCounts::new();
        for row in get_list(&report, "events")? {
            let name = row["event"].as_str().ok_or("no event")?;
            let name = name.strip_prefix("kvm:").ok_or("no system")?;
            events.insert(name.to_owned(), get_number(row, "count")?);
        }
        events.retain(|_, count| *count > 0);
        ensure_equal(
            "userspace exits by stat and by the guest",
            events.get("kvm_userspace_exit").copied(),
            Some(made.userspace_exits()?),
        )?;
        Ok(Happened { made, events })
    }
}

/// Each event that happened was shown or said to be lost, and there was some of both.
fn accounted(shown: &FinishedProcess, happened: &Happened) -> Result<(), Failed> {
    let (delivered, lost) = count_delivered_and_lost(shown)?;
    let mut sums = delivered.clone();
    for (event, count) in &lost {
        *sums.entry(event.clone()).or_default() += count;
    }
    ensure_equal("shown and lost", sums, happened.events.clone())?;
    ensure(!delivered.is_empty() && !lost.is_empty(), || {
        format!("this was no pressure: shown {delivered:?}, lost {lost:?}")
    })
}

/// The same of a recording.
fn accounted_in(file: &str, happened: &Happened) -> Result<(), Failed> {
    accounted(
        &run_collector(&["trace", "--json", "-i", file])?.expect_code(0)?,
        happened,
    )
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> Result<String, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .ok_or_else(|| format!("no {name} of process {pid}").into())
}

fn kib(pid: u32, name: &str) -> Result<u64, Failed> {
    let value = status(pid, name)?;
    Ok(value.trim_end_matches(" kB").parse()?)
}

/// The memory of a process, which is to stay what it is now.
struct Memory {
    pid: u32,
    before_kib: u64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self, Failed> {
        // The highest was when it loaded its programs: it is to be forgotten.
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        // VmRSS lacks, before Linux 6.2, what a thread has not yet added to it: even all of a mapped table.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let resident = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let resident = resident.and_then(|it| it.trim().strip_suffix(" kB"));
        let before_kib = resident.ok_or("no Rss")?.parse()?;
        Ok(Self { pid, before_kib })
    }

    /// At its highest, it was not much more.
    fn is_bounded(&self) -> Result<(), Failed> {
        let highest_kib = kib(self.pid, "VmHWM")?;
        ensure(highest_kib <= self.before_kib + MOST_GROWTH_KIB, || {
            format!("memory went from {} KiB to {highest_kib}", self.before_kib)
        })
    }
}

/// A ring much too small, for the two that need it: `ring.rs` tries it with few events, here all of them at full rate.
fn full_ring() -> Result<(), Failed> {
    let folder = TempDir::new("full-ring")?;
    let file = folder.file("kvm.data");
    let load = Load::prepare(MANY)?;
    let args = ["--ring", "4K", "-p", &load.pid()];
    let trace = RunningCollector::start(&[&["trace", "--json"], &args[..]].concat())?;
    let record = RunningCollector::start(&[&["record", "-o", &file], &args[..]].concat())?;
    let happened = load.run()?;
    accounted(&trace.end()?.expect_code(0)?, &happened)?;
    record.end()?.expect_code(0)?;
    accounted_in(&file, &happened)
}

/// The guest runs from its start to its end while a collector is stopped; then the collector goes on and ends.
fn stopped(load: Load, watch: RunningCollector) -> Result<(Happened, FinishedProcess), Failed> {
    let memory = Memory::of(watch.pid())?;
    watch.signal(Signal::STOP)?;
    let is_stopped = || Ok::<_, Failed>(status(watch.pid(), "State")?.starts_with('T'));
    let deadline = Instant::now() + SOON;
    while !is_stopped()? {
        ensure(Instant::now() < deadline, || "it does not stop".into())?;
        thread::sleep(Duration::from_millis(5));
    }
    let happened = load.run();
    let still = is_stopped()?;
    watch.signal(Signal::CONT)?;
    let happened = happened?;
    ensure(still, || "it went on by itself".into())?;
    // Time to read all that has come together, and to be seen with it.
    thread::sleep(Duration::from_millis(500));
    memory.is_bounded()?;
    Ok((happened, watch.end()?.expect_code(0)?))
}

fn stopped_stat() -> Result<(), Failed> {
    let load = Load::prepare(MANY)?;
    let args = ["stat", "--json", "--per-vm", "-I", "100ms", "-p"];
    let watch = RunningCollector::start(&[&args[..], &[&load.pid()]].concat())?;
    let (happened, ended) = stopped(load, watch)?;
    let report = ended.report()?;
    ensure_nothing_lost(&report)?;
    for of in [&report, &get_list(&report, "vms")?[0]] {
        ensure_equal(
            "userspace exits",
            event_count(of, "kvm:kvm_userspace_exit")?,
            happened.made.userspace_exits()?,
        )?;
    }
    Ok(())
}

fn stopped_exits(
    args: &[&str],
    is_exact: fn(&Value, &GuestReport) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let load = Load::prepare(MANY)?;
    let pid = load.pid();
    let fixed = ["exits", "--json", "-I", "100ms", "-p", &pid];
    let watch = RunningCollector::start(&[&fixed, args].concat())?;
    let (happened, ended) = stopped(load, watch)?;
    let report = ended.report()?;
    ensure_nothing_lost(&report)?;
    is_exact(&report, &happened.made)
}

fn stopped_trace() -> Result<(), Failed> {
    let load = Load::prepare(MANY)?;
    let args = ["trace", "--json", "--ring", "256K", "-p", &load.pid()];
    let watch = RunningCollector::start(&args)?;
    let (happened, ended) = stopped(load, watch)?;
    accounted(&ended, &happened)
}

fn stopped_record() -> Result<(), Failed> {
    let folder = TempDir::new("stopped")?;
    let file = folder.file("kvm.data");
    let load = Load::prepare(MANY)?;
    let args = ["record", "--ring", "256K", "-o", &file, "-p", &load.pid()];
    let watch = RunningCollector::start(&args)?;
    let (happened, _) = stopped(load, watch)?;
    accounted_in(&file, &happened)
}

/// How a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// 200 KB a second.
    Slowly,
    AtOnce,
    Never,
    /// Not at all, and the other end is told.
    Closed,
}

/// Reads what somebody writes.
struct Reader {
    pace: Arc<Mutex<Pace>>,
    reading: JoinHandle<Vec<u8>>,
}

impl Reader {
    fn begin(mut from: File, pace: Pace) -> Self {
        let pace = Arc::new(Mutex::new(pace));
        let told = Arc::clone(&pace);
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            let mut some = vec![0; 4 << 10];
            loop {
                let pace = told.lock().map_or(Pace::Closed, |pace| *pace);
                match pace {
                    Pace::Closed => return all,
                    Pace::AtOnce => {}
                    Pace::Slowly | Pace::Never => thread::sleep(Duration::from_millis(20)),
                }
                if pace != Pace::Never {
                    // A terminal that nobody has open any more ends with an error.
                    let Ok(length @ 1..) = from.read(&mut some) else {
                        return all;
                    };
                    all.extend_from_slice(&some[..length]);
                }
            }
        });
        Self { pace, reading }
    }

    fn set(&self, pace: Pace) {
        if let Ok(mut told) = self.pace.lock() {
            *told = pace;
        }
    }

    /// All there was, after its end.
    fn all(self) -> Result<Vec<u8>, Failed> {
        let read = self.reading.join();
        read.map_err(|_| "the reader panicked".into())
    }
}

/// A pipe with a name, that has a reader.
fn pipe(path: &str) -> Result<File, Failed> {
    use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, mknodat};
    mknodat(
        rustix::fs::CWD,
        path,
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?;
    // Only so can it be opened before there is a writer.
    let reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    fcntl_setfl(&reader, OFlags::empty())?;
    Ok(reader)
}

/// A disk that is slow: a pipe, which takes what its reader does.
struct SlowDisk {
    folder: TempDir,
    reader: Reader,
}

impl SlowDisk {
    fn new(name: &str) -> Result<Self, Failed> {
        let folder = TempDir::new(name)?;
        let file = pipe(&folder.file("pipe"))?;
        // A read of a pipe without a writer is its end: it waits for one.
        let reader = Reader::begin(file, Pace::Never);
        Ok(Self { folder, reader })
    }

    fn path(&self) -> String {
        self.folder.file("pipe")
    }

    /// Starts a collector that writes to it.
    fn watch(&self, args: &[&str]) -> Result<RunningCollector, Failed> {
        let to = self.path();
        let writer = File::options().read(true).write(true).open(&to)?;
        // The beginning of a recording is more than a pipe holds.
        self.reader.set(Pace::AtOnce);
        let watch = RunningCollector::start(&[args, &["-o", &to]].concat());
        drop(writer);
        watch
    }

    /// What a collector writes to it, slowly while the guest runs, and until it ends.
    fn written(self, load: Load, watch: RunningCollector) -> Result<(Happened, Vec<u8>), Failed> {
        let memory = Memory::of(watch.pid())?;
        self.reader.set(Pace::Slowly);
        let happened = load.run()?;
        memory.is_bounded()?;
        self.reader.set(Pace::AtOnce);
        watch.end()?.expect_code(0)?;
        Ok((happened, self.reader.all()?))
    }
}

fn slow_trace() -> Result<(), Failed> {
    let disk = SlowDisk::new("slow-trace")?;
    let load = Load::prepare(MANY)?;
    let watch = disk.watch(&[&["trace", "--json", "-p", &load.pid()], SMALL].concat())?;
    let (happened, written) = disk.written(load, watch)?;
    let shown = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
    accounted(&shown, &happened)
}

fn slow_record() -> Result<(), Failed> {
    let folder = TempDir::new("slow")?;
    let disk = SlowDisk::new("slow-record")?;
    let load = Load::prepare(MANY)?;
    let watch = disk.watch(&[&["record", "-p", &load.pid()], SMALL].concat())?;
    let (happened, written) = disk.written(load, watch)?;
    let file = folder.file("kvm.data");
    fs::write(&file, written)?;
    accounted_in(&file, &happened)
}

fn slow_terminal() -> Result<(), Failed> {
    let pty = Pty::open()?;
    let load = Load::prepare(MANY)?;
    let pid = load.pid();
    let args = [&["trace", "--json", "-p", &pid], SMALL].concat();
    let begun = ["--", "sh", "-c", "echo attached; exec sleep 100"];
    let mut watch = pty.spawn(collector_command().args(args).args(begun))?;
    // With the end of the line: what comes after it is the reader's.
    pty.wait_for("attached\r\n")?;
    let memory = Memory::of(watch.pid())?;
    let reader = Reader::begin(pty.master.try_clone()?, Pace::Slowly);
    let happened = load.run()?;
    memory.is_bounded()?;
    reader.set(Pace::AtOnce);
    watch.signal(Signal::TERM)?;
    let stderr = watch.stderr();
    let code = watch.wait()?;
    drop(pty);
    let shown = String::from_utf8(reader.all()?)?;
    accounted(
        &FinishedProcess::new(code, shown, join_reader(stderr))?.expect_code(0)?,
        &happened,
    )
}

/// What was asked for has come within a reasonable time.
fn soon(asked: Instant) -> Result<(), Failed> {
    ensure(asked.elapsed() < SOON, || {
        format!("it took {:?}", asked.elapsed())
    })
}

/// Waits until a thread of a process waits for the reader of a pipe.
fn waits_for_pipe(pid: u32) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut waits = Vec::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread that has just ended waits for nothing.
            waits.extend(fs::read_to_string(thread?.path().join("wchan")));
        }
        if waits.iter().any(|it| it.contains("pipe")) {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || {
            format!("it does not wait for its reader, but in {waits:?}")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// A run of the collector whose output is not read for half a second, at full event rate.
fn stalled(args: &[&str]) -> Result<(Happened, Vec<u8>), Failed> {
    let disk = SlowDisk::new("stalled")?;
    // The test's own memory has room for so many events in JSON, also in the VM; they fill the ring ten times.
    let load = Load::prepare("12000")?;
    let watch = disk.watch(&[args, &["--ring", "1M", "-p", &load.pid()]].concat())?;
    disk.reader.set(Pace::Never);
    let pid = watch.pid();
    let happened = thread::scope(|scope| {
        let guest = scope.spawn(|| load.run());
        let stall = waits_for_pipe(pid);
        thread::sleep(Duration::from_millis(500));
        disk.reader.set(Pace::AtOnce);
        let happened = guest.join().map_err(|_| "the guest's thread panicked")?;
        stall.and(happened)
    })?;
    watch.end()?.expect_code(0)?;
    Ok((happened, disk.reader.all()?))
}

/// All events that happened were shown.
fn complete(shown: &FinishedProcess, happened: &Happened) -> Result<(), Failed> {
    let (delivered, lost) = count_delivered_and_lost(shown)?;
    ensure_equal("lost", lost, EventCounts::new())?;
    ensure_equal("shown", delivered, happened.events.clone())
}

fn stalled_trace() -> Result<(), Failed> {
    let (happened, written) = stalled(&["trace", "--json"])?;
    let shown = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
    complete(&shown, &happened)
}

fn stalled_record() -> Result<(), Failed> {
    let folder = TempDir::new("stalled-record")?;
    let file = folder.file("kvm.data");
    let (happened, written) = stalled(&["record"])?;
    fs::write(&file, written)?;
    complete(
        &run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?,
        &happened,
    )
}

/// Nobody reads for longer than the buffer lasts: what is lost is counted, and all else is written once somebody does.
fn stopped_output() -> Result<(), Failed> {
    let folder = TempDir::new("stopped-output")?;
    let file = folder.file("kvm.data");
    for args in [&["trace", "--json"][..], &["record"]] {
        let disk = SlowDisk::new("stopped")?;
        let load = Load::prepare(MANY)?;
        let watch = disk.watch(&[args, SMALL, &["-p", &load.pid()]].concat())?;
        let memory = Memory::of(watch.pid())?;
        disk.reader.set(Pace::Never);
        let happened = load.run()?;
        waits_for_pipe(watch.pid())?;
        memory.is_bounded()?;
        disk.reader.set(Pace::AtOnce);
        watch.end()?.expect_code(0)?;
        let written = disk.reader.all()?;
        if args == ["record"] {
            fs::write(&file, written)?;
            accounted_in(&file, &happened)?;
        } else {
            let shown = FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?;
            accounted(&shown, &happened)?;
        }
    }
    Ok(())
}

/// A VM that starts and ends while nothing is written is selected by its name, and its threads have names.
fn names_while_stopped() -> Result<(), Failed> {
    for args in [&["trace", "--json"][..], &["record"]] {
        let folder = TempDir::new("names")?;
        let disk = SlowDisk::new("names")?;
        // The first VM's events are more than a pipe holds.
        let first = Guest::prepare(&["-k", "io", "-n", MANY])?;
        let vm = format!("kvm-collector-{}", first.pid);
        let few = ["-e", "kvm_userspace_exit", "--vm", &vm, "--vm", "second-*"];
        let watch = disk.watch(&[args, &few].concat())?;
        disk.reader.set(Pace::Never);
        first.run()?;
        waits_for_pipe(watch.pid())?;
        // Long enough for its name to be read: the rings are polled.
        let slow = ["--sleep", "2ms", "--name", "second-1"];
        let second = Guest::prepare(&[&["-k", "io", "-n", "100"], &slow[..]].concat())?;
        let pid: u64 = second.pid.parse()?;
        let made = second.run()?.userspace_exits()?;
        disk.reader.set(Pace::AtOnce);
        watch.end()?.expect_code(0)?;
        let written = disk.reader.all()?;
        let shown = if args == ["record"] {
            let file = folder.file("kvm.data");
            fs::write(&file, written)?;
            let stat = run_collector(&["stat", "--json", "--per-vm", "-i", &file])?.report()?;
            let vms = get_list(&stat, "vms")?.iter();
            // A stream has no table with the names of VMs: they have their processes' names.
            ensure_equal("VMs", vms.count(), 2)?;
            run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?
        } else {
            FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?
        };
        let mut of_second = 0;
        for line in shown.json()? {
            ensure(line["lost"].is_null(), || format!("lost: {line}"))?;
            ensure(line["comm"] != "<...>", || format!("no name: {line}"))?;
            of_second += u64::from(line["pid"] == pid);
        }
        ensure_equal("events of the second VM", of_second, made)?;
    }
    Ok(())
}

/// The collector stops measuring when it is told to, not when its output is read again.
fn end_while_stopped() -> Result<(), Failed> {
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
        let watch = disk.watch(&[args, SMALL, &few].concat())?;
        disk.reader.set(Pace::Never);
        guest.start()?;
        waits_for_pipe(watch.pid())?;
        if args.contains(&"60s") {
            watch.signal(Signal::INT)?;
        }
        // The guest goes on, and what it does after the end is not of interest.
        thread::sleep(Duration::from_millis(1500));
        let made = oracle.end()?.expect_code(0)?.report()?;
        let made = event_count(&made, "kvm:kvm_userspace_exit")?;
        let before = Instant::now();
        disk.reader.set(Pace::AtOnce);
        let ended = watch.wait()?.expect_code(0)?;
        soon(before)?;
        let written = disk.reader.all()?;
        let shown = if args.contains(&"record") {
            let file = folder.file("kvm.data");
            fs::write(&file, written)?;
            run_collector(&["trace", "--json", "-i", &file])?.expect_code(0)?
        } else {
            FinishedProcess::new(Some(0), String::from_utf8(written)?, String::new())?
        };
        let (delivered, lost) = count_delivered_and_lost(&shown)?;
        let sum = |counts: &EventCounts| counts.values().sum::<u64>();
        let (shown, lost) = (sum(&delivered), sum(&lost));
        ensure(shown > 0 && shown + lost < made / 5 * 4, || {
            format!("{args:?}: {shown} shown and {lost} lost of {made}: it did not end in time")
        })?;
        // The summary says the same.
        let numbers = ended.stderr.split(|it: char| !it.is_ascii_digit());
        let numbers: Vec<u64> = numbers.filter_map(|it| it.parse().ok()).collect();
        ensure(numbers.contains(&shown) && numbers.contains(&lost), || {
            format!("{args:?}: {shown} shown and {lost} lost, but the summary says {numbers:?}")
        })?;
        drop(guest);
    }
    Ok(())
}

/// Nobody reads any more, and nobody ever will: the second signal ends what the first could not.
fn never_taken() -> Result<(), Failed> {
    // Not all events: the kernel takes up to 75 ms for each to let go of a process that dies.
    let few = "kvm_userspace_exit,kvm_pio";
    for args in [
        &["trace", "--ring", "64K", "--buffer", "2M", "-e", few][..],
        &["record", "--ring", "64K", "--buffer", "2M", "-e", few],
        &["stat", "--json", "-I", "1ms"],
        &["exits", "--json", "--kind", "pio", "-I", "1ms"],
    ] {
        let disk = SlowDisk::new("never")?;
        let load = Load::prepare(MANY)?;
        let watch = disk.watch(&[args, &["-p", &load.pid()]].concat())?;
        disk.reader.set(Pace::Never);
        load.run()?;
        waits_for_pipe(watch.pid())?;
        watch.signal(Signal::TERM)?;
        thread::sleep(Duration::from_millis(700));
        let asked = Instant::now();
        ensure_equal(
            "the exit code",
            watch.end_with_signal(Signal::TERM)?.code,
            None,
        )?;
        soon(asked)?;
        disk.reader.set(Pace::Closed);
    }
    Ok(())
}

/// `timeout` signals its command and the command's group: that is one wish, and the report comes.
fn twice_at_once() -> Result<(), Failed> {
    let load = Load::prepare("1000")?;
    let watch = RunningCollector::start(&["stat", "--json", "-p", &load.pid()])?;
    let happened = load.run()?;
    for _ in 0..2 {
        watch.signal(Signal::INT)?;
        thread::sleep(Duration::from_millis(1));
    }
    let report = watch
        .end_with_signal(Signal::INT)?
        .expect_code(0)?
        .report()?;
    ensure_equal(
        "userspace exits",
        event_count(&report, "kvm:kvm_userspace_exit")?,
        happened.made.userspace_exits()?,
    )
}

/// A terminal that stops taking anything: before the first picture, and after it.
fn dead_terminal() -> Result<(), Failed> {
    for dead_from_the_start in [true, false] {
        let pty = Pty::open()?;
        let before = pty.settings()?;
        let load = Load::prepare(MANY)?;
        if dead_from_the_start {
            pty.fill()?;
        }
        let args = ["top", "--kind", "pio", "-I", "50ms", "-p", &load.pid()];
        let mut top = pty.spawn(collector_command().args(args))?;
        if !dead_from_the_start {
            pty.wait_for("pio/s")?;
            pty.fill()?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while pty.settings()? == before {
            ensure(Instant::now() < deadline, || "it is not there".into())?;
            thread::sleep(Duration::from_millis(20));
        }
        let memory = Memory::of(top.pid())?;
        let happened = load.run()?;
        ensure(happened.made.userspace_exits()? > 8000, || {
            "too few exits".into()
        })?;
        thread::sleep(Duration::from_secs(2));
        memory.is_bounded()?;
        top.signal(Signal::TERM)?;
        let asked = Instant::now();
        ensure_equal("the exit code", top.wait()?, Some(0))?;
        soon(asked)?;
        ensure_equal("the terminal", pty.settings()?, before)?;
        // What it had not taken is gone, and in its place it is told to show what it showed before.
        pty.wait_for("\x1b[?1049l")?;
    }
    Ok(())
}

/// A terminal that takes nothing while many VMs run and somebody types: neither readings nor keys pile up.
fn many_vms() -> Result<(), Failed> {
    let pty = Pty::open()?;
    // Each reading is some 20 KB.
    let vms = ["--vms", "32", "--vcpus", "2", "--sleep", "20ms"];
    let mut guest = Guest::prepare(&[&["-k", "io,io-read", "-n", "100000000"], &vms[..]].concat())?;
    let args = ["top", "--kind", "pio", "-I", "1ms", "-p", &guest.pid];
    let mut top = pty.spawn(collector_command().args(args))?;
    pty.wait_for("pio/s")?;
    guest.start()?;
    // Until it has seen all of them. Each picture hides the cursor.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        pty.wait_for("\x1b[?25l")?;
    }
    pty.fill()?;
    let memory = Memory::of(top.pid())?;
    let until = Instant::now() + Duration::from_secs(5);
    let mut typed = 0;
    while Instant::now() < until {
        typed += pty.type_keys()?;
    }
    memory.is_bounded()?;
    ensure(typed > 4 << 10, || format!("only {typed} keys were typed"))?;
    top.signal(Signal::TERM)?;
    let asked = Instant::now();
    ensure_equal("the exit code", top.wait()?, Some(0))?;
    soon(asked)
}

/// Threads that leave no CPU to anybody, three on each.
struct Busy {
    enough: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    fn begin() -> Result<Self, Failed> {
        let allowed = sched_getaffinity(None)?;
        let enough = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let mut only = CpuSet::new();
            only.set(cpu);
            for _ in 0..3 {
                let enough = Arc::clone(&enough);
                threads.push(thread::spawn(move || {
                    // Where it may not be bound, it is busy all the same.
                    let _ = sched_setaffinity(None, &only);
                    while !enough.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }));
            }
        }
        Ok(Self { enough, threads })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn busy_cpus() -> Result<(), Failed> {
    let load = Load::prepare("5000")?;
    let pid = load.pid();
    let pio = ["exits", "--json", "--kind", "pio", "-I", "20ms", "-p", &pid];
    let exits = RunningCollector::start(&pio)?;
    let trace = RunningCollector::start(&["trace", "--json", "--ring", "16K", "-p", &pid])?;
    let busy = Busy::begin()?;
    let happened = load.run()?;
    drop(busy);
    let report = exits.end()?.expect_code(0)?.report()?;
    let made = happened.made.operation_count(0, "io")?;
    ensure_equal("exits", get_number(&report, "count")?, made)?;
    accounted(&trace.end()?.expect_code(0)?, &happened)
}
