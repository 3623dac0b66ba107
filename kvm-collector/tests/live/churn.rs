//! What comes and goes: VMs that live for milliseconds, process numbers that are used again, CPUs that are taken away, and a
//! collector that hardly runs. Counts stay those of the guests, and every VM has its own name.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};
use serde_json::Value;

use crate::{
    check::{ensure, equal, list, nothing_lost, number},
    exit_reasons,
    exits::by_code,
    ftrace::Instance,
    guest::{Guest, GuestReport},
    process::{FinishedProcess, run_collector},
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    small_ring::delivered_and_lost_counts,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];
const IN_VM: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Vm,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("vms_in_a_row", REQUIREMENTS, vms_in_a_row),
        test("vms_in_a_row_with_the_same_numbers", IN_VM, few_numbers),
        test("vms_at_once", REQUIREMENTS, vms_at_once),
        test("cpus_are_taken_away", IN_VM, hotplug),
        test("events_in_interrupts", REQUIREMENTS, interrupts),
        test("a_collector_that_hardly_runs", IN_VM, quota),
        test(
            "slow_exits_at_full_rate_end_in_time",
            REQUIREMENTS,
            slow_in_time,
        ),
        test(
            "slow_exits_at_full_rate_end_at_ctrl_c",
            REQUIREMENTS,
            slow_at_ctrl_c,
        ),
    ]
}

/// How many of something: more than usual where the environment says so.
fn scaled(variable: &str, usual: u32) -> Result<u32, Failed> {
    match env::var(variable) {
        Ok(text) => Ok(text
            .parse()
            .map_err(|_| format!("{variable} is no number: {text}"))?),
        Err(_) => Ok(usual),
    }
}

/// Two collectors, of exits and of events, that see every VM.
struct Watches {
    exits: RunningCollector,
    stat: RunningCollector,
}

impl Watches {
    fn begin() -> Result<Self, Failed> {
        Ok(Self {
            exits: RunningCollector::start(&["exits", "--json", "--by", "vm,reason"])?,
            stat: RunningCollector::start(&[
                "stat",
                "--json",
                "--per-vm",
                "-e",
                "kvm_userspace_exit",
            ])?,
        })
    }

    /// Ends both, and compares with what each VM made, by its name.
    fn end(self, made: &BTreeMap<String, GuestReport>) -> Result<(), Failed> {
        let exits = self.exits.end()?.expect_code(0)?.report()?;
        let stat = self.stat.end()?.expect_code(0)?.report()?;
        nothing_lost(&exits)?;
        nothing_lost(&stat)?;
        let mut rows: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for row in list(&exits, "rows")? {
            let vm = row["vm"].as_str().ok_or("a row without a VM")?;
            rows.entry(vm).or_default().push(row);
        }
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        for vm in list(&stat, "vms")? {
            let name = vm["vm"].as_str().ok_or("a VM without a name")?;
            let counts = list(vm, "events")?.iter().map(|it| number(it, "count"));
            *events.entry(name).or_default() += counts.sum::<Result<u64, _>>()?;
        }
        for names in [rows.keys().collect::<Vec<_>>(), events.keys().collect()] {
            equal("VMs", names.len(), made.len())?;
        }
        let unnamed = |names: Vec<&str>| {
            let names = names.into_iter().map(str::to_owned);
            let unnamed: Vec<_> = names.filter(|it| !made.contains_key(it)).collect();
            equal("VMs by another name", unnamed, Vec::new())
        };
        unnamed(rows.keys().copied().collect())?;
        unnamed(events.keys().copied().collect())?;
        for (name, made) in made {
            let mut of_vm = exits.clone();
            let rows = rows
                .get(name.as_str())
                .ok_or_else(|| format!("no {name}"))?;
            of_vm["rows"] = rows.iter().map(|row| (*row).clone()).collect();
            let counted = exit_reasons::without_host_exits(by_code(&of_vm)?);
            equal(&format!("exits of {name}"), counted, made.exits()?)?;
            let counted = events.get(name.as_str()).copied();
            equal(
                &format!("userspace exits of {name}"),
                counted,
                Some(made.userspace_exits()?),
            )?;
        }
        Ok(())
    }
}

fn in_a_row(vms: u32) -> Result<(), Failed> {
    let watches = Watches::begin()?;
    let mut made = BTreeMap::new();
    for vm in 0..vms {
        let name = format!("short-{vm}");
        let of_vm = GuestReport::by_short_vm(&name, 20 + vm % 7, "0s")?;
        made.insert(name, of_vm);
    }
    watches.end(&made)
}

fn vms_in_a_row() -> Result<(), Failed> {
    in_a_row(scaled("KVM_TEST_VMS_IN_A_ROW", 40)?)
}

/// Fewer process numbers than VMs with their threads: the numbers are used again.
struct FewPids(String);

impl FewPids {
    const FILE: &str = "/proc/sys/kernel/pid_max";

    fn begin() -> Result<Self, Failed> {
        let before = fs::read_to_string(Self::FILE)?;
        // The first 300 are for what the system starts with (RESERVED_PIDS, kernel/pid.c).
        fs::write(Self::FILE, "400")?;
        Ok(Self(before))
    }
}

impl Drop for FewPids {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, &self.0);
    }
}

fn few_numbers() -> Result<(), Failed> {
    let _few = FewPids::begin()?;
    in_a_row(120)
}

/// Many VMs at once, each followed by another one when it ends.
fn vms_at_once() -> Result<(), Failed> {
    let vms = scaled("KVM_TEST_VMS_AT_ONCE", 10)?;
    let seconds = scaled("KVM_TEST_CHURN_SECONDS", 4)?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let watches = Watches::begin()?;
    let made = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for slot in 0..vms {
            let (made, failed) = (&made, &failed);
            scope.spawn(move || {
                for generation in 0.. {
                    let name = format!("vm-{slot}-{generation}");
                    match GuestReport::by_short_vm(&name, 100, "2ms") {
                        Ok(it) => locked(made).insert(name, it),
                        Err(error) => return *locked(failed) = Some(error),
                    };
                    if Instant::now() > end {
                        return;
                    }
                }
            });
        }
    });
    if let Some(error) = locked(&failed).take() {
        return Err(error);
    }
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("churn: {} VMs, {vms} at once", made.len());
    watches.end(&made)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A CPU that goes and comes back.
fn hotplug() -> Result<(), Failed> {
    let online = Path::new("/sys/devices/system/cpu/cpu1/online");
    ensure(online.exists(), || "the VM has one CPU".into())?;
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "4000", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let exits = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    let stat =
        RunningCollector::start(&["stat", "--json", "-e", "kvm_userspace_exit", "-p", &pid])?;
    let trace = RunningCollector::start(&[
        "trace",
        "--json",
        "--ring",
        "16M",
        "-e",
        "kvm_userspace_exit",
        "-p",
        &pid,
    ])?;
    let running = thread::spawn(move || guest.run());
    for _ in 0..8 {
        for state in ["0", "1"] {
            fs::write(online, state)?;
            thread::sleep(Duration::from_millis(100));
        }
    }
    let made = running.join().map_err(|_| "the guest panicked")??;
    let report = exits.end()?.expect_code(0)?.report()?;
    nothing_lost(&report)?;
    let without_faults = |mut exits: BTreeMap<u64, u64>| -> Result<_, Failed> {
        // vCPUs that start together may fault more than once for a page.
        for fault in ["npf", "EPT_VIOLATION"] {
            exits.remove(&exit_reasons::reason_code(fault)?);
        }
        Ok(exits)
    };
    equal(
        "exits",
        without_faults(exit_reasons::without_host_exits(by_code(&report)?))?,
        without_faults(made.exits()?)?,
    )?;
    let userspace_exits = made.userspace_exits()?;
    let report = stat.end()?.expect_code(0)?.report()?;
    nothing_lost(&report)?;
    equal(
        "counted",
        number(&list(&report, "events")?[0], "count")?,
        userspace_exits,
    )?;
    let (delivered, lost) = delivered_and_lost_counts(&trace.end()?.expect_code(0)?)?;
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    equal("traced", sum(&delivered) + sum(&lost), userspace_exits)
}

/// Programs for events in interrupts, which run in the middle of those for KVM's events.
fn interrupts() -> Result<(), Failed> {
    const EVENT: &str = "irq_vectors:local_timer_entry";
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "8000"])?;
    let (pid, tids) = (guest.pid.clone(), guest.tids.clone());
    let mut oracle = Instance::new()?;
    oracle.count("irq_vectors/local_timer_entry", "common_pid")?;
    let exits = RunningCollector::start(&["exits", "--json", "--causes", "-p", &pid])?;
    let events = format!("kvm_userspace_exit,{EVENT}");
    let stat = RunningCollector::start(&["stat", "--json", "--per-vm", "-e", &events, "-p", &pid])?;
    let made = guest.run()?;
    let report = exits.end()?.expect_code(0)?.report()?;
    nothing_lost(&report)?;
    equal(
        "exits",
        exit_reasons::without_host_exits(by_code(&report)?),
        made.exits()?,
    )?;
    let report = stat.end()?.expect_code(0)?.report()?;
    let happened = oracle.counted_in("irq_vectors/local_timer_entry", &tids)?;
    let count = |event: &str| -> Result<u64, Failed> {
        let events = list(&report, "events")?;
        let event = events.iter().find(|it| it["event"] == event);
        number(event.ok_or("an event is missing")?, "count")
    };
    equal(
        "userspace exits",
        count("kvm:kvm_userspace_exit")?,
        made.userspace_exits()?,
    )?;
    let counted = count(EVENT)?;
    // Where the kernel does not say how many it missed, that can be any number.
    let missed = report["loss"]["missed"].as_u64();
    println!("interrupts: {happened}, of which {counted} were counted, {missed:?} missed");
    // A thread is known to be a vCPU's from its first exit on.
    const BEFORE: u64 = 20;
    ensure(
        counted > 0
            && counted <= happened
            && missed.is_none_or(|missed| counted + missed + BEFORE >= happened),
        || format!("{counted} timer interrupts counted, {missed:?} missed, of {happened}"),
    )
}

/// A group of processes that gets 2 % of a CPU.
struct Quota(PathBuf);

impl Quota {
    const ROOT: &str = "/tmp/cgroup";

    fn begin(pids: &[u32]) -> Result<Self, Failed> {
        fs::create_dir_all(Self::ROOT)?;
        mount("none", Self::ROOT, "cgroup2", MountFlags::empty(), None)?;
        let quota = Self(Path::new(Self::ROOT).join("little"));
        fs::write(Path::new(Self::ROOT).join("cgroup.subtree_control"), "+cpu")?;
        fs::create_dir(&quota.0)?;
        fs::write(quota.0.join("cpu.max"), "2000 100000")?;
        for pid in pids {
            fs::write(quota.0.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cpu.max"), "max");
        let procs = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            let _ = fs::write(Path::new(Self::ROOT).join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.0);
        let _ = unmount(Self::ROOT, UnmountFlags::empty());
    }
}

fn quota() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "8000"])?;
    let pid = guest.pid.clone();
    let exits = RunningCollector::start(&["exits", "--json", "-I", "100ms", "-p", &pid])?;
    let trace = RunningCollector::start(&[
        "trace",
        "--json",
        "--ring",
        "16K",
        "-e",
        "kvm_userspace_exit",
        "-p",
        &pid,
    ])?;
    let quota = Quota::begin(&[exits.pid(), trace.pid()])?;
    let made = guest.run()?;
    drop(quota);
    let report = exits.end()?.expect_code(0)?.report()?;
    nothing_lost(&report)?;
    equal(
        "exits",
        exit_reasons::without_host_exits(by_code(&report)?),
        made.exits()?,
    )?;
    let (delivered, lost) = delivered_and_lost_counts(&trace.end()?.expect_code(0)?)?;
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    println!("quota: {} delivered, {} lost", sum(&delivered), sum(&lost));
    equal(
        "traced",
        sum(&delivered) + sum(&lost),
        made.userspace_exits()?,
    )
}

/// Every exit is slow, and there is always another one.
const EVERY_EXIT: [&str; 4] = ["exits", "--json", "--slow", "1ns"];

fn endless_guest() -> Result<Guest, Failed> {
    let mut guest = Guest::prepare(&["-k", "io,cpuid", "-n", "100000000"])?;
    guest.release()?;
    Ok(guest)
}

/// It ends soon after it is due, also under emulation on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn ended_well(ended: FinishedProcess, after: Duration) -> Result<(), Failed> {
    let report = ended.expect_code(0)?.report()?;
    ensure(after < SOON, || format!("it ended {after:?} late"))?;
    // Exits that could not be reported are counted, here and as lost.
    ensure(number(&report, "count")? > 0, || "no exits".into())
}

fn slow_in_time() -> Result<(), Failed> {
    let guest = endless_guest()?;
    let began = Instant::now();
    let ended = run_collector(&[&EVERY_EXIT[..], &["-d", "2s"]].concat())?;
    let took = began.elapsed();
    drop(guest);
    ended_well(ended, took.saturating_sub(Duration::from_secs(2)))
}

fn slow_at_ctrl_c() -> Result<(), Failed> {
    let guest = endless_guest()?;
    let watch = RunningCollector::start(&EVERY_EXIT)?;
    thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    let ended = watch.end_with_signal(Signal::INT)?;
    let took = began.elapsed();
    drop(guest);
    ended_well(ended, took)
}
