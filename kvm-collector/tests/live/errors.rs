//! Errors have a message that names the cause and a fix, and the right exit code. The collector never panics.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Command, Stdio},
};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_number},
    exits,
    guest::Guest,
    process::{ChildGuard, FinishedProcess, join_reader, run_collector, run_command, spawn_reader},
    requirements::{Requirement, collector_command, test},
    running_collector::RunningCollector,
    temp_files::TempFile,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// No process and no thread has this id: pid_max is at most 2^22.
const UNUSED_PID: &str = "4194999";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("without_root_is_an_error", REQUIREMENTS, without_root),
        test("unknown_names_are_errors", REQUIREMENTS, unknown_names),
        test(
            "unknown_reason_is_an_error",
            exits::REQUIREMENTS,
            unknown_reason,
        ),
        test("invalid_arguments_give_exit_code_2", &[], invalid_arguments),
        test(
            "process_without_vm_is_named",
            REQUIREMENTS,
            process_without_vm,
        ),
        test(
            "command_not_found_is_an_error",
            REQUIREMENTS,
            command_not_found,
        ),
        test(
            "failing_command_gives_exit_code_1",
            REQUIREMENTS,
            failing_command,
        ),
        test(
            "unwritable_output_is_an_error",
            REQUIREMENTS,
            unwritable_output,
        ),
        test("closed_pipe_is_not_an_error", REQUIREMENTS, closed_pipe),
        test(
            "ctrl_c_prints_the_report_of_stat",
            REQUIREMENTS,
            ctrl_c_in_stat,
        ),
        test(
            "ctrl_c_prints_the_report_of_exits",
            exits::REQUIREMENTS,
            ctrl_c_in_exits,
        ),
    ]
}

/// Runs the collector as the user `nobody`: a copy, since this user may lack access to the build directory.
pub(crate) fn run_as_nobody(args: &[&str]) -> Result<FinishedProcess, Failed> {
    let copy = TempFile::new("copy");
    fs::copy(collector_command().get_program(), copy.path())?;
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755))?;
    run_command(Command::new(copy.path()).args(args).uid(65534).gid(65534))
}

fn without_root() -> Result<(), Failed> {
    for command in ["stat", "exits", "trace"] {
        run_as_nobody(&[command, "-d", "100ms"])?
            .expect_code(1)?
            .expect_message(&["root"])?;
    }
    Ok(())
}

/// Process 1 is not a VMM. An empty report says so, and names the running VMs.
fn process_without_vm() -> Result<(), Failed> {
    for command in ["stat", "exits"] {
        run_collector(&[command, "-p", "1", "-d", "100ms"])?
            .expect_code(0)?
            .expect_message(&["process 1 (", "runs no VM"])?;
    }
    run_collector(&["stat", "--vcpu", "4000", "-d", "100ms"])?
        .expect_code(0)?
        .expect_message(&["no events", "VM"])?;
    Ok(())
}

fn unknown_names() -> Result<(), Failed> {
    let cases: [(&[&str], &[&str], i32); 9] = [
        (
            &["stat", "-e", "kvm_exti"],
            &["kvm_exti", "kvm-collector list"],
            2,
        ),
        (&["trace", "-e", "kvm:no_such"], &["kvm:no_such"], 2),
        (&["stat", "-e", "kvm_userspace_exit,other*"], &["other*"], 2),
        (
            &["stat", "--vm", "no-such-vm", "--no-wait"],
            &["no VM is named `no-such-vm`"],
            2,
        ),
        (
            &[
                "record",
                "--vm",
                "no-such-*",
                "--no-wait",
                "-o",
                "/dev/null",
            ],
            &["no VM is named `no-such-*`"],
            2,
        ),
        (
            &["trace", "-p", UNUSED_PID],
            &["no process", UNUSED_PID, "VM"],
            2,
        ),
        (&["stat", "-p", UNUSED_PID], &["no process", UNUSED_PID], 2),
        (
            &["trace", "--tid", UNUSED_PID],
            &["no thread", UNUSED_PID],
            2,
        ),
        (&["stat", "--vm", "[broken"], &["[broken"], 2),
    ];
    for (args, words, code) in cases {
        let output = run_collector(&[args, &["-d", "100ms"]].concat())?.expect_code(code)?;
        ensure_equal("stdout", output.stdout.as_str(), "")?;
        output.expect_message(words)?;
    }
    // The message about an unknown VM lists the VMs that exist.
    let guest = Guest::prepare(&["--name", "a-name-to-be-found"])?;
    let words = ["no-such-vm", "a-name-to-be-found", &guest.pid];
    let absent = ["stat", "--vm", "no-such-vm", "-d", "100ms"];
    run_collector(&[&absent[..], &["--no-wait"]].concat())?
        .expect_code(2)?
        .expect_message(&words)?;
    // Without --no-wait this is only a warning, since the VM may start later.
    run_collector(&absent)?
        .expect_code(0)?
        .expect_message(&[&words[..], &["yet", "--no-wait"]].concat())?;
    Ok(())
}

fn unknown_reason() -> Result<(), Failed> {
    run_collector(&["exits", "--reason", "no_such_reason", "-d", "100ms"])?
        .expect_code(2)?
        .expect_message(&["no_such_reason"])?;
    Ok(())
}

fn invalid_arguments() -> Result<(), Failed> {
    let cases: [(&[&str], &str); 8] = [
        (&["stat", "-d", "5parsecs"], "5parsecs"),
        (&["stat", "-d", "0s"], "longer than 0"),
        (&["stat", "-I", "soon"], "soon"),
        (&["exits", "--by", "colour"], "colour"),
        (&["exits", "--max-rows", "0"], "0"),
        (&["trace", "--ring", "5K"], "power of two"),
        (&["stat", "-p", "init"], "init"),
        (&["stat", "--json", "--csv"], "--csv"),
    ];
    for (args, word) in cases {
        run_collector(args)?
            .expect_code(2)?
            .expect_message(&[word])?;
    }
    Ok(())
}

fn command_not_found() -> Result<(), Failed> {
    for command in ["stat", "trace"] {
        run_collector(&[command, "--", "/no/such/command", "--its", "arguments"])?
            .expect_code(1)?
            .expect_message(&["/no/such/command"])?;
    }
    Ok(())
}

fn failing_command() -> Result<(), Failed> {
    let output = run_collector(&["stat", "--json", "--", "sh", "-c", "exit 7"])?.expect_code(1)?;
    ensure_equal("the report", &output.report()?["view"], &"stat".into())?;
    output.expect_message(&["7"])?;
    Ok(())
}

fn unwritable_output() -> Result<(), Failed> {
    for command in ["stat", "trace"] {
        run_collector(&[command, "-d", "100ms", "-o", "/no/such/folder/report"])?
            .expect_code(1)?
            .expect_message(&["/no/such/folder/report"])?;
    }
    // This file can be opened, but writing to it fails.
    run_collector(&["stat", "-d", "100ms", "-o", "/dev/full"])?.expect_code(1)?;
    Ok(())
}

/// As with `trace | head -1`.
fn closed_pipe() -> Result<(), Failed> {
    for extra in [&["--json"][..], &[]] {
        let mut guest = Guest::prepare(&["-k", "io", "-n", "3000", "--sleep", "1ms"])?;
        let mut trace = ChildGuard::spawn(
            collector_command()
                .args(["trace", "-e", "kvm_userspace_exit", "-p", &guest.pid])
                .args(extra)
                .stdin(Stdio::null()),
        )?;
        let stderr = trace.stderr();
        let stdout = trace.0.stdout.take().ok_or("stdout is piped")?;
        guest.start()?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure(!line.is_empty(), || "no line was printed".into())?;
        let code = trace.wait()?;
        let output = FinishedProcess::new(code, line, join_reader(stderr))?.expect_code(0)?;
        ensure_equal("stderr", output.stderr.as_str(), "")?;
    }
    Ok(())
}

fn ctrl_c_in_stat() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "100"])?;
    let mut stat = ChildGuard::spawn(
        collector_command()
            .args(["stat", "--json", "-I", "50ms", "-e", "kvm_userspace_exit"])
            .args(["-p", &guest.pid])
            .stdin(Stdio::null()),
    )?;
    let stderr = stat.stderr();
    let mut stdout = BufReader::new(stat.0.stdout.take().ok_or("stdout is piped")?);
    let mut first_line = String::new();
    stdout.read_line(&mut first_line)?;
    let expected = guest.run()?.userspace_exits()?;
    let rest = spawn_reader(Some(stdout));
    stat.signal(Signal::INT)?;
    let code = stat.wait()?;
    let output =
        FinishedProcess::new(code, join_reader(rest), join_reader(stderr))?.expect_code(0)?;
    let total = output.report()?;
    ensure_equal(
        "the total",
        get_number(&total["events"][0], "count")?,
        expected,
    )?;
    let interval: Value = serde_json::from_str(&first_line)?;
    ensure_equal("the start", &total["start_ns"], &interval["start_ns"])
}

fn ctrl_c_in_exits() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "cpuid", "-n", "100"])?;
    let exits = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let expected = guest.run()?.exits()?;
    let report = exits
        .end_with_signal(Signal::INT)?
        .expect_code(0)?
        .report()?;
    ensure_equal(
        "exits",
        crate::exit_reasons::without_host_exits(exits::counts_by_code(&report)?),
        expected,
    )
}
