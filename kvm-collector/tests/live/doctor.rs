//! `doctor` tries what the commands do: it reports what the kernel refuses, and leaves nothing behind.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_list},
    container::command_in_namespaces,
    errors::run_as_nobody,
    process::{run_collector, run_command},
    requirements::{Requirement, collector_command, test},
    schema::check_schema,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("doctor_tries_each_command", REQUIREMENTS, all_commands_work),
        test(
            "doctor_leaves_no_program_behind",
            REQUIREMENTS,
            nothing_left_behind,
        ),
        test(
            "doctor_reports_a_refused_mapping",
            REQUIREMENTS,
            refused_mapping,
        ),
        test(
            "doctor_reports_refused_programs",
            REQUIREMENTS,
            refused_programs,
        ),
        test(
            "doctor_in_a_container_counts_events",
            REQUIREMENTS,
            pid_namespace,
        ),
        test(
            "doctor_without_a_guest_does_not_know_whether_exits_fire",
            REQUIREMENTS,
            no_kvm,
        ),
        test(
            "doctor_without_root_names_the_privilege",
            REQUIREMENTS,
            missing_privilege,
        ),
    ]
}

fn commands(report: &str) -> Result<(Value, Vec<Value>), Failed> {
    let report: Value = serde_json::from_str(report)?;
    check_schema(&report)?;
    let commands = get_list(&report, "commands")?.to_vec();
    ensure_equal("commands", commands.len(), 5)?;
    Ok((report, commands))
}

fn all_commands_work() -> Result<(), Failed> {
    let doctor = run_collector(&["doctor", "--json"])?.expect_code(0)?;
    let (report, commands) = commands(&doctor.stdout)?;
    ensure_equal("usable", &report["usable"], &Value::Bool(true))?;
    for command in &commands {
        let needs_exits = ["exits", "top"].iter().any(|it| command["command"] == *it);
        let works = !needs_exits || report["exits_fire"] == true;
        let expected = if works { "ok" } else { "fail" };
        ensure(command["status"] == expected, || command.to_string())?;
        ensure_equal("options", get_list(command, "without")?.len(), 0)?;
    }
    Ok(())
}

/// Returns the id of the newest eBPF program that exists; 0 if there is none.
fn newest_program(after: u32) -> io::Result<Option<u32>> {
    /// `BPF_PROG_GET_NEXT_ID`.
    const NEXT_ID: libc::c_int = 11;
    let mut attr = [0u32; 32];
    attr[0] = after;
    // SAFETY: the attribute has at least the bytes that this command uses; the kernel accepts zeros behind them.
    let result = unsafe { libc::syscall(libc::SYS_bpf, NEXT_ID, attr.as_mut_ptr(), 128) };
    match result {
        0 => Ok(Some(attr[1])),
        _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT) => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

fn program_ids() -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    while let Some(id) = newest_program(ids.last().copied().unwrap_or(0))? {
        ids.push(id);
    }
    Ok(ids)
}

fn nothing_left_behind() -> Result<(), Failed> {
    let instances = || -> io::Result<Vec<_>> {
        let entries = fs::read_dir("/sys/kernel/tracing/instances")?;
        Ok(entries
            .filter_map(|it| Some(it.ok()?.file_name()))
            .collect())
    };
    let last_before = program_ids()?.last().copied().unwrap_or(0);
    let before = instances()?;
    run_collector(&["doctor"])?.expect_code(0)?;
    ensure_equal("instances of ftrace", instances()?, before)?;
    // Classic tracepoint programs are detached in the background, which takes the kernel 75 ms each.
    let began = Instant::now();
    while let Some(id) = newest_program(last_before)? {
        ensure(began.elapsed() < Duration::from_secs(10), || {
            format!("program {id} still exists")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A condition for system calls to fail with an error, as a seccomp filter.
struct RefusedCall {
    call: libc::c_long,
    /// Index and lower half of an argument.
    argument: Option<(u32, u32)>,
    errno: libc::c_int,
}

/// Runs `doctor --json` where the kernel refuses a system call.
fn doctor_without(refused: RefusedCall) -> Result<String, Failed> {
    let statement = |code: u32, k| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf: 0,
        k,
    };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let compare = |k, jf| libc::sock_filter {
        jf,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    };
    let result = |k| statement(libc::BPF_RET | libc::BPF_K, k);
    let call = u32::try_from(refused.call)?;
    let error = result(libc::SECCOMP_RET_ERRNO | refused.errno.cast_unsigned());
    let allow = result(libc::SECCOMP_RET_ALLOW);
    // The number of the call is the first word, and the arguments start after 16 bytes.
    let filter = match refused.argument {
        Some((index, value)) => vec![
            load(0),
            compare(call, 3),
            load(16 + 8 * index),
            compare(value, 1),
            error,
            allow,
        ],
        None => vec![load(0), compare(call, 1), error, allow],
    };
    let mut command = collector_command();
    command.args(["doctor", "--json"]);
    // SAFETY: the function only makes system calls.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).unwrap_or_default(),
                filter: filter.as_ptr().cast_mut(),
            };
            let mode = libc::SECCOMP_MODE_FILTER;
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(run_command(&mut command)?.expect_code(1)?.stdout)
}

/// Fails unless `doctor` says that the collector cannot work, and each command has a status and an explanation.
fn ensure_no_command_works(
    stdout: &str,
    status: &str,
    is_explained: impl Fn(&Value) -> bool,
) -> Result<(), Failed> {
    let (report, commands) = commands(stdout)?;
    ensure_equal("usable", &report["usable"], &Value::Bool(false))?;
    for command in commands {
        let is_expected = command["status"] == status && is_explained(&command["refusal"]);
        ensure(is_expected, || command.to_string())?;
    }
    Ok(())
}

/// Returns whether a text of a refusal contains these words.
fn contains(refusal: &Value, key: &str, words: &str) -> bool {
    refusal[key].as_str().is_some_and(|it| it.contains(words))
}

/// As on a kernel that cannot map the memory of maps: mmap(2) with MAP_SHARED and MAP_POPULATE fails.
fn refused_mapping() -> Result<(), Failed> {
    let report = doctor_without(RefusedCall {
        call: libc::SYS_mmap,
        argument: Some((3, (libc::MAP_SHARED | libc::MAP_POPULATE).cast_unsigned())),
        errno: libc::EINVAL,
    })?;
    ensure_no_command_works(&report, "fail", |refusal| {
        contains(refusal, "error", "cannot map") && contains(refusal, "error", "Invalid argument")
    })
}

/// With all capabilities, but with a seccomp filter that refuses to load programs (`BPF_PROG_LOAD`).
fn refused_programs() -> Result<(), Failed> {
    let report = doctor_without(RefusedCall {
        call: libc::SYS_bpf,
        argument: Some((0, 5)),
        errno: libc::EPERM,
    })?;
    ensure_no_command_works(&report, "fail", |refusal| {
        contains(refusal, "error", "Operation not permitted")
            && contains(refusal, "advice", "seccomp")
    })
}

/// Runs `doctor --json` in namespaces.
fn doctor_in(namespaces: &str) -> Result<(Value, Vec<Value>), Failed> {
    let mut command = collector_command();
    command.args(["doctor", "--json"]);
    let doctor = run_command(&mut command_in_namespaces(namespaces, &command)?)?;
    commands(&doctor.expect_code(0)?.stdout)
}

/// Ids are different there, but the kernel counts the events of the guest's threads.
fn pid_namespace() -> Result<(), Failed> {
    let (outside, _) = commands(&run_collector(&["doctor", "--json"])?.stdout)?;
    let (inside, _) = doctor_in("pid mount proc")?;
    ensure(outside["exits_fire"].is_boolean(), || outside.to_string())?;
    ensure_equal("exits_fire", &inside["exits_fire"], &outside["exits_fire"])
}

/// The programs can be tried, but not whether VM exits can be measured.
fn no_kvm() -> Result<(), Failed> {
    let (report, commands) = doctor_in("mount no-kvm")?;
    ensure_equal("exits_fire", &report["exits_fire"], &Value::Null)?;
    let checks = get_list(&report, "checks")?;
    let device = checks.iter().find(|it| it["name"] == "/dev/kvm");
    ensure(device.is_some_and(|it| it["status"] == "warn"), || {
        report.to_string()
    })?;
    for command in commands {
        let needs_exits = ["exits", "top"].iter().any(|it| command["command"] == *it);
        let expected = if needs_exits { "skip" } else { "ok" };
        ensure(command["status"] == expected, || command.to_string())?;
    }
    Ok(())
}

fn missing_privilege() -> Result<(), Failed> {
    let doctor = run_as_nobody(&["doctor", "--json"])?.expect_code(1)?;
    ensure_no_command_works(&doctor.stdout, "skip", |refusal| {
        contains(refusal, "advice", "CAP_BPF and CAP_PERFMON")
            && contains(refusal, "advice", "not tried")
    })
}
