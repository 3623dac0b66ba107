//! What a measurement keeps when its programs are attached, and that a user with few capabilities can measure.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use caps::Capability;
use libtest_mimic::{Failed, Trial};

use crate::{
    check::ensure,
    process::{FinishedProcess, run_collector, run_command},
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
            "a_measurement_keeps_few_capabilities",
            REQUIREMENTS,
            all_threads,
        ),
        test(
            "a_user_with_few_capabilities_measures",
            OTHER_USER,
            ordinary_user,
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

/// What a measurement may keep: to list VMs, and to end its command.
const KEPT: [Capability; 3] = [
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_KILL,
];

fn all_threads() -> Result<(), Failed> {
    let allowed = KEPT.iter().fold(0, |mask, it| mask | it.bitmask());
    let file = TempFile::new("recording");
    for args in [
        &["stat"][..],
        &["exits"],
        &["trace", "-o", "/dev/null"],
        &["record", "-o", file.path().to_str().ok_or("a name")?],
    ] {
        let collector = RunningCollector::start(args)?;
        let threads = ThreadStatus::wait_for_sandbox(collector.pid())?;
        for thread in &threads {
            let kept = thread.permitted | thread.effective | thread.inheritable;
            ensure(kept & !allowed == 0 && thread.no_new_privs, || {
                format!("{args:?}: {thread:?}")
            })?;
        }
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

fn ordinary_user() -> Result<(), Failed> {
    // The last one is for tracefs, which only root may read by default.
    let names = ["bpf", "perfmon", "dac_read_search"];
    for args in [
        &["stat", "-v", "-d", "100ms"][..],
        &["trace", "-v", "-d", "100ms"],
        &["exits", "-v", "-d", "100ms"],
        &["record", "-v", "-d", "100ms", "-o", "/dev/null"],
    ] {
        run_with(&names, args)?
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
