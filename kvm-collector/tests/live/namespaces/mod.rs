//! Ids, names and times when the collector runs in namespaces, and VMMs with unusual processes.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{ChildStdin, Command, ExitCode, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use kvm_collector::host::clock::{monotonic_ns, real_and_monotonic_ns};
use kvm_ioctls::Kvm;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    container::{Container, command_in_namespaces},
    guest::Guest,
    process::{ChildGuard, FinishedProcess, run_collector, run_command},
    requirements::{Requirement, collector_command, test},
    temp_files::TempFile,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const EXIT_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::ExitEvents,
];
const VM_NEEDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Vm,
];

/// The event that fires on every KVM.
const EVENT: &[&str] = &["-e", "kvm_userspace_exit"];

/// A guest that goes on as long as anybody watches.
const ENDLESS: &[&str] = &["-k", "io", "-n", "100000000", "--sleep", "1ms"];

/// Set in this program's own environment, it is such a VMM.
const VMM: &str = "KVM_TEST_VMM";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_container_sees_no_other_vms_names",
            REQUIREMENTS,
            container,
        ),
        test(
            "the_hosts_proc_in_a_pid_namespace",
            REQUIREMENTS,
            hosts_proc,
        ),
        test("a_user_namespace_is_said", REQUIREMENTS, user_namespace),
        test("a_time_namespace_ahead", REQUIREMENTS, || times(100_000)),
        test("a_time_namespace_behind", REQUIREMENTS, || times(behind()?)),
        test("exits_in_a_time_namespace", EXIT_REQUIREMENTS, exit_times),
        test(
            "a_vm_without_main_thread_is_listed",
            REQUIREMENTS,
            no_main_thread,
        ),
        test("a_forked_child_is_not_listed", REQUIREMENTS, forked_child),
        test("wall_time_follows_the_clock", VM_NEEDS, clock_is_set),
    ]
}

/// Lockdown stays until the machine is switched off: nothing can be tested after this.
pub(crate) fn last_tests() -> Vec<Trial> {
    vec![test("lockdown_is_said", VM_NEEDS, lockdown)]
}

fn collect(args: &[&str], more: &[&str]) -> Command {
    let mut command = collector_command();
    command.args(args).args(more);
    command
}

fn endless(command: Command, name: &str) -> Result<Guest, Failed> {
    let mut guest = Guest::prepare_with(command, &[&["--name", name], ENDLESS].concat())?;
    guest.start()?;
    Ok(guest)
}

/// The names and processes of a report's VMs.
fn vms(report: &Value) -> Result<Vec<(String, u64)>, Failed> {
    let vm = |vm: &Value| {
        let name = vm["vm"].as_str().ok_or("a VM without a name")?;
        Ok((name.to_owned(), get_number(vm, "pid")?))
    };
    get_list(report, "vms")?.iter().map(vm).collect()
}

/// A VM in a container has the same process id there as another one on the host.
fn container() -> Result<(), Failed> {
    let outer = endless(collector_command(), "outer")?;
    let container = Container::new("pid mount uts ipc proc")?;
    let inner = container.command_with_id(&outer.pid, &collector_command())?;
    let inner = endless(inner, "inner")?;
    ensure_equal("the inner VM's id", &inner.pid, &outer.pid)?;
    let recording = TempFile::new("recording");

    let tid = inner.tids[0].to_string();
    let refused: [(&[&str], &str); 6] = [
        (&["stat", "--vm", "inner"], "--vm"),
        (&["exits", "--vm", "inner"], "--vm"),
        (&["trace", "-p", &inner.pid], "-p"),
        (&["trace", "--tid", &tid], "--tid"),
        (&["top", "--once", "--vm", "inner"], "--vm"),
        (&["record", "--vm", "inner", "-o", recording.arg()?], "--vm"),
    ];
    for (args, option) in refused {
        let ended = container.run(&collect(args, &["-d", "100ms"]))?;
        let words = [option, "pid namespace", "--pid=host", "/proc"];
        ensure_equal(
            "stdout",
            ended
                .expect_code(1)?
                .expect_message(&words)?
                .stdout
                .as_str(),
            "",
        )?;
    }

    // Without a selection all VMs of the host are seen, by the kernel's ids. They go by what the kernel knows: a thread's
    // name.
    let warned = |ended: FinishedProcess| {
        let words = ["warn", "names of VMs and threads", "pid namespace"];
        ended.expect_code(0)?.expect_message(&words)
    };
    let stat = collect(&["stat", "--per-vm", "--json", "-d", "500ms"], EVENT);
    let ended = warned(container.run(&stat)?)?;
    ensure_equal("warnings", ended.stderr.matches("warn").count(), 1)?;
    let seen = vms(&ended.report()?)?;
    ensure(seen.len() >= 2, || format!("VMs are missing: {seen:?}"))?;
    let is_of_kernel = |(name, pid): &(String, u64)| *name == format!("CPU 0/KVM-{pid}");
    ensure(seen.iter().all(is_of_kernel), || {
        format!("a VM has a name of this container's /proc: {seen:?}")
    })?;
    ensure(
        seen.iter().any(|(_, pid)| pid.to_string() == outer.pid),
        || format!("the kernel's id {} is missing: {seen:?}", outer.pid),
    )?;
    let trace = collect(&["trace", "--json", "-d", "300ms"], EVENT);
    let mut lines = warned(container.run(&trace)?)?.json()?;
    // Of a thread that ends the kernel itself says the name.
    let outer_pid: u64 = outer.pid.parse()?;
    lines.retain(|line| line["pid"] == outer_pid);
    ensure(!lines.is_empty(), || "no events".into())?;
    ensure(lines.iter().all(|it| it["comm"] == "<...>"), || {
        format!("a thread has a name: {lines:?}")
    })?;
    let top = ["top", "--once", "--kind", "pio", "-d", "300ms"];
    let top = warned(container.run(&collect(&top, &[]))?)?;
    let row = format!("CPU 0/KVM-{}", outer.pid);
    ensure(
        top.stdout.contains(&row) && !top.stdout.contains("inner"),
        || format!("no `{row}`, or another VM's name: {}", top.stdout),
    )?;

    // A recording has no names either, and can be selected from everywhere.
    let record = ["record", "-d", "300ms", "-o", recording.arg()?];
    warned(container.run(&collect(&record, EVENT))?)?;
    let of_recording = [
        "stat",
        "--per-vm",
        "--json",
        "-i",
        recording.arg()?,
        "-p",
        &outer.pid,
    ];
    let of_recording = collect(&of_recording, &[]);
    for ended in [
        run_command(&mut collect(
            &[
                "stat",
                "--per-vm",
                "--json",
                "-i",
                recording.arg()?,
                "-p",
                &outer.pid,
            ],
            &[],
        ))?,
        container.run(&of_recording)?,
    ] {
        let seen = vms(&ended.expect_code(0)?.report()?)?;
        ensure_equal("VMs", seen, vec![("?".to_owned(), outer.pid.parse()?)])?;
    }

    let listed = container.run(&collect(&["list", "vms"], &[]))?;
    let listed = listed.expect_code(0)?.expect_message(&["pid namespace"])?;
    ensure(
        listed.stdout.contains("inner") && !listed.stdout.contains("outer"),
        || format!("not what is in the container: {}", listed.stdout),
    )?;
    let doctor = container.run(&collect(&["doctor"], &[]))?.expect_code(0)?;
    for word in ["pid namespace", "--pid=host", "see pid namespace"] {
        ensure(doctor.stdout.contains(word), || {
            format!("no `{word}`: {}", doctor.stdout)
        })?;
    }
    Ok(())
}

/// As in a container that has the host's `/proc`.
fn hosts_proc() -> Result<(), Failed> {
    let guest = endless(collector_command(), "outer")?;
    let container = Container::new("pid")?;
    for selection in [["--vm", "outer"], ["-p", &guest.pid]] {
        let args = ["stat", "--per-vm", "--json", "-d", "300ms"];
        let stat = collect(&[&args[..], &selection].concat(), EVENT);
        let ended = container.run(&stat)?.expect_code(0)?;
        ensure_equal("stderr", ended.stderr.as_str(), "")?;
        let seen = vms(&ended.report()?)?;
        ensure_equal("VMs", seen, vec![("outer".into(), guest.pid.parse()?)])?;
    }
    let trace = ["trace", "--json", "-d", "300ms", "--tid"];
    let trace = collect(&[&trace[..], &[&guest.tids[0].to_string()]].concat(), EVENT);
    let lines = container.run(&trace)?.expect_code(0)?.json()?;
    ensure(!lines.is_empty(), || "no events".into())?;
    ensure(lines.iter().all(|it| it["comm"] == "CPU 0/KVM"), || {
        format!("not its thread's name: {lines:?}")
    })?;
    // The doctor's own guest is found by the kernel's ids.
    let doctor = container.run(&collect(&["doctor", "--json"], &[]))?;
    let diagnosis: Value = serde_json::from_str(&doctor.expect_code(0)?.stdout)?;
    for check in get_list(&diagnosis, "checks")? {
        if check["name"] == "exits fire" {
            let found = check["found"].as_str().unwrap_or_default();
            ensure(!found.contains("kvm_userspace_exit 0"), || found.to_owned())?;
            ensure(check["status"] != "skip", || found.to_owned())?;
        }
    }
    Ok(())
}

fn user_namespace() -> Result<(), Failed> {
    for args in [
        &["stat"][..],
        &["exits"],
        &["trace"],
        &["record", "-o", "/dev/null"],
    ] {
        let command = collect(args, &["-d", "100ms"]);
        run_command(&mut command_in_namespaces("user", &command)?)?
            .expect_code(1)?
            .expect_message(&["user namespace", "root of the host"])?;
    }
    let doctor = run_command(&mut command_in_namespaces(
        "user",
        &collect(&["doctor"], &[]),
    )?)?
    .expect_code(1)?;
    ensure(doctor.stdout.contains("in a user namespace"), || {
        doctor.stdout
    })
}

/// Returns an offset with which the clock starts at about 0, as in a container with a short uptime.
fn behind() -> Result<i64, Failed> {
    Ok(1 - i64::try_from(monotonic_ns() / 1_000_000_000)?)
}

/// Runs a command in a time namespace, and says between which two of the kernel's times.
fn run_at(
    seconds: i64,
    command: &Command,
) -> Result<(FinishedProcess, std::ops::RangeInclusive<u64>), Failed> {
    let before_ns = monotonic_ns();
    let ended = run_command(&mut command_in_namespaces(
        &format!("time clock={seconds}"),
        command,
    )?)?;
    Ok((ended.expect_code(0)?, before_ns..=monotonic_ns()))
}

fn times(seconds: i64) -> Result<(), Failed> {
    let guest = endless(collector_command(), "web")?;
    let selected = &[EVENT, &["-p", &guest.pid, "-d", "500ms"]].concat();
    let (trace, expected) = run_at(seconds, &collect(&["trace", "--json"], selected))?;
    let lines = trace.json()?;
    ensure(!lines.is_empty(), || "no events".into())?;
    for line in &lines {
        let time_ns = get_number(line, "time_ns")?;
        ensure(expected.contains(&time_ns), || {
            format!("{time_ns} is not within {expected:?}")
        })?;
    }
    // The second field of the line is the date and time.
    let real_ns = || real_and_monotonic_ns().0;
    let began_ns = real_ns();
    let (trace, _) = run_at(seconds, &collect(&["trace", "--time", "wall"], selected))?;
    let recording = TempFile::new("clock");
    let record = collect(&["record", "-o", recording.arg()?], selected);
    run_at(seconds, &record)?;
    let ended_ns = real_ns();
    let of_recording = ["trace", "--time", "wall", "-i", recording.arg()?];
    for ended in [trace, run_collector(&of_recording)?.expect_code(0)?] {
        let walls = walls(&ended.stdout)?;
        ensure(!walls.is_empty(), || "no events".into())?;
        for wall_ns in walls {
            ensure((began_ns..=ended_ns).contains(&wall_ns), || {
                format!("{wall_ns} is not within {began_ns} and {ended_ns}")
            })?;
        }
    }
    let (stat, _) = run_at(seconds, &collect(&["stat", "--json"], selected))?;
    let elapsed_ns = get_number(&stat.report()?, "elapsed_ns")?;
    ensure(elapsed_ns < 10_000_000_000, || {
        format!("{elapsed_ns} ns of half a second")
    })
}

/// The real times of lines, in ns since 1970.
fn walls(lines: &str) -> Result<Vec<u64>, Failed> {
    let wall = |line: &str| {
        let (_, rest) = line.split_once("] ").ok_or("no time")?;
        let time = rest.split(": ").next().ok_or("no time")?;
        let since = humantime::parse_rfc3339(time)?.duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(u64::try_from(since.as_nanos())?)
    };
    lines.lines().map(wall).collect()
}

fn exit_times() -> Result<(), Failed> {
    // It is out of the guest nearly all the time, so a share that is too large is seen to be.
    let halted = ["-k", "timer", "--timer", "20ms", "-n", "100000000"];
    let mut guest = Guest::prepare(&[&["--name", "web"], &halted[..]].concat())?;
    guest.start()?;
    for seconds in [100_000, behind()?] {
        let selected = &["-p", &guest.pid, "-d", "1s"];
        let (exits, _) = run_at(
            seconds,
            &collect(&["exits", "--json", "--by", "vm"], selected),
        )?;
        let report = exits.report()?;
        let elapsed_ns = get_number(&report, "elapsed_ns")?;
        let row = &get_list(&report, "rows")?[0];
        let total_ns = get_number(row, "time_ns")?;
        ensure((1..=elapsed_ns).contains(&total_ns), || {
            format!("{total_ns} ns of one vCPU in {elapsed_ns} ns")
        })?;
        let (top, _) = run_at(seconds, &collect(&["top", "--once"], selected))?;
        let mut shares = 0;
        for word in top.stdout.split_whitespace() {
            let Some(share) = word.strip_suffix('%').and_then(|it| it.parse::<f64>().ok()) else {
                continue;
            };
            shares += 1;
            ensure(share <= 100.0, || format!("{share} %: {}", top.stdout))?;
        }
        ensure(shares >= 3, || top.stdout)?;
    }
    Ok(())
}

/// This program, as a VMM.
struct Vmm {
    child: ChildGuard,
    /// Its end ends the VMM.
    stdin: ChildStdin,
    /// What it says when it is ready.
    said: String,
}

impl Vmm {
    fn start(kind: &str) -> Result<Self, Failed> {
        let mut command = Command::new(env::current_exe()?);
        command.env(VMM, kind).args(["--name", kind]);
        let mut child = ChildGuard::spawn(command.stdin(Stdio::piped()))?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let stdout = child.0.stdout.take().ok_or("stdout is piped")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        ensure(!said.is_empty(), || "it is no VMM".into())?;
        Ok(Self { child, stdin, said })
    }
}

/// Is a VMM if this program was started for that.
pub(crate) fn run_vmm_if_requested() -> Option<ExitCode> {
    let kind = env::var(VMM).ok()?;
    Some(match vmm(&kind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

fn vmm(kind: &str) -> Result<(), Failed> {
    let vm = Kvm::new()?.create_vm()?;
    match kind {
        "leaderless" => {
            thread::spawn(move || {
                let _vm = vm;
                // When this can be read, the main thread has ended, or is about to.
                println!("ready");
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                // SAFETY: it ends the process.
                unsafe { libc::_exit(0) };
            });
            // SAFETY: it ends this thread only, which has nothing that anybody needs.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            Ok(())
        }
        // SAFETY: this process has one thread.
        _ => match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: a system call with numbers. With its parent, it ends.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            child => {
                println!("{child}");
                std::io::stdin().read_to_end(&mut Vec::new())?;
                drop(vm);
                Ok(())
            }
        },
    }
}

/// Which of these processes `list` lists, with their names.
fn listed(pids: &[u32]) -> Result<Vec<(u64, String)>, Failed> {
    let report = run_collector(&["list", "vms", "--json"])?
        .expect_code(0)?
        .report()?;
    let mut listed = Vec::new();
    for vm in get_list(&report, "vms")? {
        let pid = get_number(vm, "tgid")?;
        if pids.iter().any(|it| u64::from(*it) == pid) {
            listed.push((pid, vm["name"].as_str().unwrap_or_default().to_owned()));
        }
    }
    Ok(listed)
}

fn no_main_thread() -> Result<(), Failed> {
    let vmm = Vmm::start("leaderless")?;
    let pid = vmm.child.pid();
    let stat = format!("/proc/{pid}/stat");
    let is_ended = || fs::read_to_string(&stat).is_ok_and(|it| it.contains(") Z "));
    for _ in 0..1000 {
        if is_ended() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    ensure(is_ended(), || "its main thread goes on".into())?;
    let expected = vec![(u64::from(pid), "leaderless".to_owned())];
    ensure_equal("listed", listed(&[pid])?, expected)?;
    run_collector(&["stat", "--vm", "leaderless", "--no-wait", "-d", "100ms"])?.expect_code(0)?;
    drop(vmm.stdin);
    Ok(())
}

fn forked_child() -> Result<(), Failed> {
    let vmm = Vmm::start("forking")?;
    let (pid, child) = (vmm.child.pid(), vmm.said.trim().parse()?);
    let files = fs::read_dir(format!("/proc/{child}/fd"))?;
    let targets = files.flatten().map(|it| fs::read_link(it.path()));
    ensure(
        targets
            .flatten()
            .any(|it| it.as_os_str() == "anon_inode:kvm-vm"),
        || "the child has not inherited the VM".into(),
    )?;
    let expected = vec![(u64::from(pid), "forking".to_owned())];
    ensure_equal("listed", listed(&[pid, child])?, expected)?;
    drop(vmm.stdin);
    Ok(())
}

/// Sets the machine's clock.
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

fn clock_is_set() -> Result<(), Failed> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let guest = endless(collector_command(), "web")?;
    let trace = collect(
        &["trace", "--time", "wall", "-p", &guest.pid, "-d", "3s"],
        EVENT,
    );
    let setting = thread::spawn(|| {
        thread::sleep(Duration::from_secs(2));
        let real_ns = real_and_monotonic_ns().0;
        set_clock(real_ns + HOUR_NS).map_err(|error| format!("{error:?}"))
    });
    let ended = run_command(&mut { trace });
    let set = setting.join().map_err(|_| "it panicked")?;
    set?;
    set_clock(real_and_monotonic_ns().0 - HOUR_NS)?;
    let walls = walls(&ended?.expect_code(0)?.stdout)?;
    let (first, last) = (
        walls.first().ok_or("no events")?,
        walls.last().ok_or("none")?,
    );
    let passed_ns = last.saturating_sub(*first);
    ensure(
        (HOUR_NS..HOUR_NS + 60_000_000_000).contains(&passed_ns),
        || format!("{passed_ns} ns passed"),
    )
}

fn lockdown() -> Result<(), Failed> {
    const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
    if !fs::exists(LOCKDOWN)? {
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount(
            "securityfs",
            "/sys/kernel/security",
            "securityfs",
            none,
            None,
        )?;
    }
    fs::write(LOCKDOWN, "confidentiality")?;
    let words = ["locked down", LOCKDOWN, "lockdown=integrity"];
    for args in [
        &["stat", "-d", "100ms"][..],
        &["exits", "-d", "100ms"],
        &["trace", "-d", "100ms"],
        &["record", "-d", "100ms", "-o", "/dev/null"],
        &["top", "--once"],
        &["list"],
    ] {
        run_collector(args)?
            .expect_code(1)?
            .expect_message(&words)?;
    }
    let doctor = run_collector(&["doctor"])?.expect_code(1)?;
    for word in words {
        ensure(doctor.stdout.contains(word), || doctor.stdout.clone())?;
    }
    Ok(())
}
