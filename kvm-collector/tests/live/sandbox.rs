//! What a measurement keeps when its programs are attached, and that a user with few capabilities can measure.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use caps::Capability;
use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use crate::{
    check::{ensure, ensure_equal},
    process::{ChildGuard, FinishedProcess, run_collector, run_command},
    requirements::{Requirement, collector_command, test},
    running_collector::RunningCollector,
    temp_files::TempFile,
    thread_status::ThreadStatus,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// Of tests that start a process of another user.
const OTHER_USER: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Setpriv,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_measurement_keeps_no_capabilities",
            REQUIREMENTS,
            all_threads,
        ),
        test(
            "a_measurement_with_a_command_keeps_few_capabilities",
            REQUIREMENTS,
            with_command,
        ),
        test(
            "a_user_with_few_capabilities_measures",
            OTHER_USER,
            ordinary_user,
        ),
        test(
            "restricted_perf_events_are_named",
            OTHER_USER,
            restricted_perf_events,
        ),
        test(
            "a_missing_capability_is_named",
            OTHER_USER,
            missing_capability,
        ),
        test("a_command_of_another_user_is_ended", OTHER_USER, other_user),
        test("what_is_in_force_is_shown", REQUIREMENTS, in_force),
        test(
            "a_measurement_leaves_no_process",
            REQUIREMENTS,
            no_process_is_left,
        ),
    ]
}

/// A container may have no process that reaps the process that lists VMs, so the collector does it itself.
fn no_process_is_left() -> Result<(), Failed> {
    let adopt_orphans = |adopts: libc::c_ulong| {
        // SAFETY: a system call with numbers.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, adopts) }
    };
    adopt_orphans(1);
    let output = run_collector(&["stat", "-d", "50ms"]);
    let own = std::process::id().to_string();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process can end at any time.
        let stat = fs::read_to_string(entry?.path().join("stat")).unwrap_or_default();
        if let Some((name, rest)) = stat.rsplit_once(") ")
            && name.ends_with("(kvm-collector-v")
            && rest.split(' ').nth(1) == Some(&own)
        {
            left.push(stat);
        }
    }
    adopt_orphans(0);
    output?.expect_code(0)?;
    ensure(left.is_empty(), || format!("{left:?}"))
}

/// The measurements. docs/security.md says what they keep.
fn measurements(file: &str) -> [Vec<&str>; 6] {
    [
        vec!["stat"],
        vec!["stat", "--per-vm", "--vm", "*"],
        vec!["exits", "--kind", "pio"],
        vec!["top", "--once", "--kind", "pio"],
        vec!["trace", "-o", "/dev/null"],
        vec!["record", "-o", file],
    ]
}

/// Fails unless each thread of a process keeps exactly these capabilities, and cannot get others.
fn ensure_kept(pid: u32, args: &[&str], expected: u64) -> Result<(), Failed> {
    for thread in ThreadStatus::wait_until(pid, |it| it.has_filter && it.handles_interrupt)? {
        let is_expected = thread.permitted == expected
            && thread.effective == expected
            && thread.inheritable == 0
            && thread.no_new_privs;
        ensure(is_expected, || {
            format!("{args:?}: expected {expected:#x}, found {thread:?}")
        })?;
    }
    Ok(())
}

fn all_threads() -> Result<(), Failed> {
    let file = TempFile::new("recording");
    for args in measurements(file.arg()?) {
        let mut collector =
            ChildGuard::spawn(collector_command().args(&args).args(["-d", "60s", "-q"]))?;
        ensure_kept(collector.pid(), &args, 0)?;
        collector.signal(Signal::INT)?;
        ensure_equal("exit code", collector.wait()?, Some(0))?;
    }
    Ok(())
}

/// The command may have another user by the time it has to be ended.
fn with_command() -> Result<(), Failed> {
    let file = TempFile::new("recording");
    for args in measurements(file.arg()?) {
        // `top` runs no command.
        if args[0] == "top" {
            continue;
        }
        let collector = RunningCollector::start(&args)?;
        ensure_kept(collector.pid(), &args, Capability::CAP_KILL.bitmask())?;
        collector.end()?.expect_code(0)?;
    }
    Ok(())
}

/// Runs a copy of the collector as an ordinary user with these capabilities.
fn run_with(names: &[&str], args: &[&str]) -> Result<FinishedProcess, Failed> {
    let copy = TempFile::new("copy");
    fs::copy(collector_command().get_program(), copy.path())?;
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755))?;
    let names: Vec<_> = names.iter().map(|it| format!("+{it}")).collect();
    let set = format!("-all,{}", names.join(","));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    for option in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
        command.args([option, &set]);
    }
    run_command(command.arg(copy.path()).args(args))
}

/// The sysctl with which the kernels of Debian and Ubuntu restrict perf events further than Linux itself. Its value is restored at
/// the end.
struct PerfEventParanoid(String);

impl PerfEventParanoid {
    const PATH: &str = "/proc/sys/kernel/perf_event_paranoid";

    fn set(value: &str) -> Result<Self, Failed> {
        let before = fs::read_to_string(Self::PATH)?;
        fs::write(Self::PATH, value)?;
        Ok(Self(before))
    }
}

impl Drop for PerfEventParanoid {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

/// The capabilities that a user needs. The last one is for tracefs, which only root may read by default.
const NEEDED: [&str; 3] = ["bpf", "perfmon", "dac_read_search"];

/// Whether the kernel refuses is Debian's patch. Elsewhere, everything works with each value.
fn restricted_perf_events() -> Result<(), Failed> {
    let _restored = PerfEventParanoid::set("3")?;
    run_with(&NEEDED, &["stat", "-d", "100ms"])?.expect_code(0)?;
    let exits = run_with(&NEEDED, &["exits", "-d", "100ms"])?;
    if exits.code != Some(0) {
        exits
            .expect_code(1)?
            .expect_message(&["kernel.perf_event_paranoid is 3", "CAP_SYS_ADMIN"])?;
    }
    Ok(())
}

fn ordinary_user() -> Result<(), Failed> {
    let _restored = PerfEventParanoid::set("2")?;
    for args in [
        &["stat", "-v", "-d", "100ms"][..],
        &["trace", "-v", "-d", "100ms"],
        &["exits", "-v", "-d", "100ms"],
        &["record", "-v", "-d", "100ms", "-o", "/dev/null"],
    ] {
        run_with(&NEEDED, args)?
            .expect_code(0)?
            .expect_message(&["sandbox: "])?;
    }
    Ok(())
}

fn missing_capability() -> Result<(), Failed> {
    for (names, missing) in [
        (&["bpf", "dac_read_search"][..], "CAP_PERFMON"),
        (&["perfmon", "dac_read_search"], "CAP_BPF"),
        (&["bpf", "perfmon"], "CAP_DAC_READ_SEARCH"),
    ] {
        run_with(names, &["stat", "-d", "100ms"])?
            .expect_code(1)?
            .expect_message(&[missing, "run as root"])?;
    }
    Ok(())
}

/// Ending a process of another user needs a capability.
fn other_user() -> Result<(), Failed> {
    let mut command = collector_command();
    command.args([
        "stat", "-d", "200ms", "--", "setpriv", "--reuid", "65534", "sleep", "60",
    ]);
    run_command(&mut command)?.expect_code(0)?;
    Ok(())
}

fn in_force() -> Result<(), Failed> {
    let run = |args: &[&str]| run_command(collector_command().args(args));
    run(&["stat", "--self", "-d", "100ms"])?
        .expect_code(0)?
        .expect_message(&["sandbox", "no_new_privs", "seccomp"])?;
    run(&["stat", "--self", "--no-sandbox", "-d", "100ms"])?
        .expect_code(0)?
        .expect_message(&["sandbox       off"])?;
    let doctor = run(&["doctor"])?.stdout;
    ensure(
        doctor.contains("sandbox") && doctor.contains("no capabilities"),
        || doctor,
    )
}
