//! Counts stay exact while VMs live for milliseconds, process ids are reused, CPUs go offline and the collector gets almost
//! no CPU time.

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
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    exit_reasons,
    exits::counts_by_code,
    ftrace_instance::FtraceInstance,
    guest::{Guest, GuestReport},
    process::{FinishedProcess, run_collector},
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    small_ring::count_delivered_and_lost,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];
const VM_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Vm,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "vms_one_after_the_other_are_counted_exactly",
            REQUIREMENTS,
            successive_vms,
        ),
        test(
            "vms_with_reused_process_ids_are_counted_exactly",
            VM_REQUIREMENTS,
            reused_process_ids,
        ),
        test(
            "concurrent_short_vms_are_counted_exactly",
            REQUIREMENTS,
            concurrent_vms,
        ),
        test(
            "counts_are_exact_while_cpus_go_offline",
            VM_REQUIREMENTS,
            cpu_hotplug,
        ),
        test(
            "counts_are_exact_with_events_in_interrupts",
            REQUIREMENTS,
            events_in_interrupts,
        ),
        test(
            "counts_are_exact_if_the_collector_hardly_runs",
            VM_REQUIREMENTS,
            low_cpu_quota,
        ),
        test(
            "slow_exits_at_full_rate_end_after_the_duration",
            REQUIREMENTS,
            slow_exits_end_after_the_duration,
        ),
        test(
            "slow_exits_at_full_rate_end_after_ctrl_c",
            REQUIREMENTS,
            slow_exits_end_after_ctrl_c,
        ),
    ]
}

/// Reads a number from an environment variable, with which a user can make a test longer.
fn read_scale(variable: &str, default: u32) -> Result<u32, Failed> {
    match env::var(variable) {
        Ok(text) => Ok(text
            .parse()
            .map_err(|_| format!("{variable} is not a number: {text}"))?),
        Err(_) => Ok(default),
    }
}

/// An `exits` and a `stat` of all VMs.
struct Collectors {
    exits: RunningCollector,
    stat: RunningCollector,
}

impl Collectors {
    fn start() -> Result<Self, Failed> {
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

    /// Ends both collectors, and compares their counts with the reports of the guests, which are indexed by VM name.
    fn end_and_compare(self, guests: &BTreeMap<String, GuestReport>) -> Result<(), Failed> {
        let exits = self.exits.end()?.expect_code(0)?.report()?;
        let stat = self.stat.end()?.expect_code(0)?.report()?;
        ensure_nothing_lost(&exits)?;
        ensure_nothing_lost(&stat)?;
        let mut rows: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for row in get_list(&exits, "rows")? {
            let vm = row["vm"].as_str().ok_or("a row without a VM")?;
            rows.entry(vm).or_default().push(row);
        }
        let mut events: BTreeMap<&str, u64> = BTreeMap::new();
        for vm in get_list(&stat, "vms")? {
            let name = vm["vm"].as_str().ok_or("a VM without a name")?;
            let counts = get_list(vm, "events")?
                .iter()
                .map(|event| get_number(event, "count"));
            *events.entry(name).or_default() += counts.sum::<Result<u64, _>>()?;
        }
        for names in [rows.keys().collect::<Vec<_>>(), events.keys().collect()] {
            ensure_equal("VMs", names.len(), guests.len())?;
        }
        let ensure_all_known = |names: Vec<&str>| {
            let names = names.into_iter().map(str::to_owned);
            let unknown: Vec<_> = names.filter(|name| !guests.contains_key(name)).collect();
            ensure_equal("unknown VMs", unknown, Vec::new())
        };
        ensure_all_known(rows.keys().copied().collect())?;
        ensure_all_known(events.keys().copied().collect())?;
        for (name, guest) in guests {
            let mut vm_report = exits.clone();
            let rows = rows
                .get(name.as_str())
                .ok_or_else(|| format!("no {name}"))?;
            vm_report["rows"] = rows.iter().map(|row| (*row).clone()).collect();
            let counted = exit_reasons::without_host_exits(counts_by_code(&vm_report)?);
            ensure_equal(&format!("exits of {name}"), counted, guest.exits()?)?;
            let counted = events.get(name.as_str()).copied();
            ensure_equal(
                &format!("userspace exits of {name}"),
                counted,
                Some(guest.userspace_exits()?),
            )?;
        }
        Ok(())
    }
}

/// Runs short VMs one after the other, and checks their counts.
fn check_successive_vms(vms: u32) -> Result<(), Failed> {
    let collectors = Collectors::start()?;
    let mut guests = BTreeMap::new();
    for vm in 0..vms {
        let name = format!("short-{vm}");
        let guest = GuestReport::run_short_vm(&name, 20 + vm % 7, "0s")?;
        guests.insert(name, guest);
    }
    collectors.end_and_compare(&guests)
}

fn successive_vms() -> Result<(), Failed> {
    check_successive_vms(read_scale("KVM_TEST_VMS_IN_A_ROW", 40)?)
}

/// A low limit for process ids, so that the kernel reuses them soon. The old limit is restored on drop.
struct LowPidLimit {
    previous: String,
}

impl LowPidLimit {
    const FILE: &str = "/proc/sys/kernel/pid_max";

    fn set() -> Result<Self, Failed> {
        let previous = fs::read_to_string(Self::FILE)?;
        // The kernel does not reuse ids below 300 (RESERVED_PIDS, kernel/pid.c).
        fs::write(Self::FILE, "400")?;
        Ok(Self { previous })
    }
}

impl Drop for LowPidLimit {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, &self.previous);
    }
}

fn reused_process_ids() -> Result<(), Failed> {
    let _limit = LowPidLimit::set()?;
    check_successive_vms(120)
}

/// Several VMs run at the same time. When one of them ends, another one starts.
fn concurrent_vms() -> Result<(), Failed> {
    let vms = read_scale("KVM_TEST_VMS_AT_ONCE", 10)?;
    let seconds = read_scale("KVM_TEST_CHURN_SECONDS", 4)?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let collectors = Collectors::start()?;
    let guests = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for slot in 0..vms {
            let (guests, failed) = (&guests, &failed);
            scope.spawn(move || {
                for generation in 0.. {
                    let name = format!("vm-{slot}-{generation}");
                    match GuestReport::run_short_vm(&name, 100, "2ms") {
                        Ok(report) => lock(guests).insert(name, report),
                        Err(error) => return *lock(failed) = Some(error),
                    };
                    if Instant::now() > end {
                        return;
                    }
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let guests = guests.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("churn: {} VMs, {vms} at the same time", guests.len());
    collectors.end_and_compare(&guests)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A CPU goes offline and comes back several times while a guest runs.
fn cpu_hotplug() -> Result<(), Failed> {
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
    let guest = running
        .join()
        .map_err(|_| "the thread of the guest panicked")??;
    let report = exits.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let without_faults = |mut exits: BTreeMap<u64, u64>| -> Result<_, Failed> {
        // vCPUs that start at the same time may fault more than once for a page.
        for fault in ["npf", "EPT_VIOLATION"] {
            exits.remove(&exit_reasons::reason_code(fault)?);
        }
        Ok(exits)
    };
    ensure_equal(
        "exits",
        without_faults(exit_reasons::without_host_exits(counts_by_code(&report)?))?,
        without_faults(guest.exits()?)?,
    )?;
    let userspace_exits = guest.userspace_exits()?;
    let report = stat.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    ensure_equal(
        "counted",
        get_number(&get_list(&report, "events")?[0], "count")?,
        userspace_exits,
    )?;
    let (delivered, lost) = count_delivered_and_lost(&trace.end()?.expect_code(0)?)?;
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    ensure_equal("traced", sum(&delivered) + sum(&lost), userspace_exits)
}

/// The collector counts an event that fires in interrupts. Its program can interrupt the programs for KVM's events.
fn events_in_interrupts() -> Result<(), Failed> {
    const EVENT: &str = "irq_vectors:local_timer_entry";
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "8000"])?;
    let (pid, tids) = (guest.pid.clone(), guest.tids.clone());
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("irq_vectors/local_timer_entry", "common_pid")?;
    let exits = RunningCollector::start(&["exits", "--json", "--causes", "-p", &pid])?;
    let events = format!("kvm_userspace_exit,{EVENT}");
    let stat = RunningCollector::start(&["stat", "--json", "--per-vm", "-e", &events, "-p", &pid])?;
    let guest = guest.run()?;
    let report = exits.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    ensure_equal(
        "exits",
        exit_reasons::without_host_exits(counts_by_code(&report)?),
        guest.exits()?,
    )?;
    let report = stat.end()?.expect_code(0)?.report()?;
    let interrupts = oracle.count_in_threads("irq_vectors/local_timer_entry", &tids)?;
    let count = |event: &str| -> Result<u64, Failed> {
        let events = get_list(&report, "events")?;
        let event = events.iter().find(|row| row["event"] == event);
        get_number(event.ok_or("an event is missing")?, "count")
    };
    ensure_equal(
        "userspace exits",
        count("kvm:kvm_userspace_exit")?,
        guest.userspace_exits()?,
    )?;
    let counted = count(EVENT)?;
    // `None` if the kernel does not count missed events. Then any number may be missing.
    let missed = report["loss"]["missed"].as_u64();
    println!("interrupts: {interrupts}, of which {counted} were counted, {missed:?} missed");
    // Interrupts of a thread before its first exit: the collector does not yet know that it is a vCPU thread.
    const BEFORE_FIRST_EXIT: u64 = 20;
    ensure(
        counted > 0
            && counted <= interrupts
            && missed.is_none_or(|missed| counted + missed + BEFORE_FIRST_EXIT >= interrupts),
        || format!("{counted} timer interrupts counted, {missed:?} missed, of {interrupts}"),
    )
}

/// A cgroup that gets 2 % of a CPU. It is removed on drop.
struct CpuQuota(PathBuf);

impl CpuQuota {
    const ROOT: &str = "/tmp/cgroup";

    fn set(pids: &[u32]) -> Result<Self, Failed> {
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

impl Drop for CpuQuota {
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

fn low_cpu_quota() -> Result<(), Failed> {
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
    let quota = CpuQuota::set(&[exits.pid(), trace.pid()])?;
    let guest = guest.run()?;
    drop(quota);
    let report = exits.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    ensure_equal(
        "exits",
        exit_reasons::without_host_exits(counts_by_code(&report)?),
        guest.exits()?,
    )?;
    let (delivered, lost) = count_delivered_and_lost(&trace.end()?.expect_code(0)?)?;
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    println!("quota: {} delivered, {} lost", sum(&delivered), sum(&lost));
    ensure_equal(
        "traced",
        sum(&delivered) + sum(&lost),
        guest.userspace_exits()?,
    )
}

/// A threshold of 1 ns makes every exit slow, so the collector always has an exit to report.
const EVERY_EXIT: [&str; 4] = ["exits", "--json", "--slow", "1ns"];

fn start_endless_guest() -> Result<Guest, Failed> {
    let mut guest = Guest::prepare(&["-k", "io,cpuid", "-n", "100000000"])?;
    guest.start()?;
    Ok(guest)
}

/// The collector ends at most this long after it should, also under emulation on a busy machine.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Fails unless the collector ended successfully, without a long delay, and counted exits.
fn check_end(output: FinishedProcess, delay: Duration) -> Result<(), Failed> {
    let report = output.expect_code(0)?.report()?;
    ensure(delay < MAX_DELAY, || {
        format!("the collector ended {delay:?} too late")
    })?;
    // Slow exits that could not be reported are counted in the table, and as lost.
    ensure(get_number(&report, "count")? > 0, || "no exits".into())
}

fn slow_exits_end_after_the_duration() -> Result<(), Failed> {
    let guest = start_endless_guest()?;
    let start = Instant::now();
    let output = run_collector(&[&EVERY_EXIT[..], &["-d", "2s"]].concat())?;
    let elapsed = start.elapsed();
    drop(guest);
    check_end(output, elapsed.saturating_sub(Duration::from_secs(2)))
}

fn slow_exits_end_after_ctrl_c() -> Result<(), Failed> {
    let guest = start_endless_guest()?;
    let collector = RunningCollector::start(&EVERY_EXIT)?;
    thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    let output = collector.end_with_signal(Signal::INT)?;
    let elapsed = start.elapsed();
    drop(guest);
    check_end(output, elapsed)
}
