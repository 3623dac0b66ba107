//! The collector without tracefs, without privileges, without KVM, and while KVM is loaded and unloaded. These tests run only in the
//! disposable VM, and restore its state.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};

use crate::{
    arch::kvm_module,
    check::{ensure, ensure_equal, get_number},
    counts::{check_intervals_sum, event_count},
    errors::run_as_nobody,
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
    resident_vm,
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Vm,
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];
const TRACEFS: &str = "/sys/kernel/tracing";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "the_collector_mounts_tracefs",
            REQUIREMENTS,
            tracefs_not_mounted,
        ),
        test(
            "missing_privileges_are_an_error",
            REQUIREMENTS,
            no_privileges,
        ),
        test("kvm_not_loaded_is_an_error", REQUIREMENTS, kvm_not_loaded),
        test(
            "the_collector_waits_until_kvm_is_loaded",
            REQUIREMENTS,
            kvm_loaded_later,
        ),
        test(
            "counting_continues_after_kvm_was_unloaded",
            REQUIREMENTS,
            kvm_unloaded,
        ),
    ]
}

/// Calls a function on drop, to restore the state of the machine even if the test fails.
struct Restore(fn());

impl Drop for Restore {
    fn drop(&mut self) {
        self.0();
    }
}

fn run_program(program: &str, args: &[&str]) -> Result<(), Failed> {
    let output = Command::new(program).args(args).output()?;
    ensure(output.status.success(), || {
        format!("{program} {args:?}: {output:?}")
    })
}

fn mount_tracefs() {
    if !Path::new(TRACEFS).join("events").exists() {
        let _ = run_program("mount", &["-t", "tracefs", "tracefs", TRACEFS]);
    }
}

fn load_kvm() {
    let _ = run_program("modprobe", &[kvm_module()]);
    resident_vm::create();
}

fn tracefs_not_mounted() -> Result<(), Failed> {
    let _restore = Restore(mount_tracefs);
    run_program("umount", &[TRACEFS])?;
    run_as_nobody(&["stat", "-d", "100ms"])?
        .expect_code(1)?
        .expect_message(&["mount -t tracefs tracefs /sys/kernel/tracing", "root"])?;
    ensure(!Path::new(TRACEFS).join("events").exists(), || {
        "a user without privileges mounted tracefs".into()
    })?;
    let output = run_collector(&["stat", "-d", "100ms", "-e", "kvm_userspace_exit", "--json"])?
        .expect_code(0)?
        .expect_message(&["tracefs was not mounted", "mounted it at", TRACEFS])?;
    ensure_equal("the report", &output.report()?["view"], &"stat".into())?;
    ensure(Path::new(TRACEFS).join("events").exists(), || {
        "tracefs was not mounted".into()
    })
}

/// Every user may read tracefs, but loading programs still requires privileges.
fn no_privileges() -> Result<(), Failed> {
    let _restore = Restore(|| {
        let _ = run_program("mount", &["-o", "remount,mode=700", TRACEFS]);
        let _ = run_program(
            "sh",
            &["-c", "find /sys/kernel/tracing -exec chmod o-rx {} + "],
        );
    });
    run_program("mount", &["-o", "remount,mode=755", TRACEFS])?;
    run_program(
        "sh",
        &[
            "-c",
            "cd /sys/kernel/tracing && chmod 755 events && find events/kvm events/kvmmmu -exec chmod o+rX {} +",
        ],
    )?;
    for command in ["stat", "exits", "trace"] {
        run_as_nobody(&[command, "-d", "100ms"])?
            .expect_code(1)?
            .expect_message(&["eBPF", "root", "CAP_BPF"])?;
    }
    Ok(())
}

fn kvm_not_loaded() -> Result<(), Failed> {
    let _restore = Restore(load_kvm);
    resident_vm::close();
    unload(kvm_module())?;
    unload("kvm")?;
    for command in ["stat", "exits", "trace"] {
        run_collector(&[command, "--no-wait", "-d", "100ms"])?
            .expect_code(1)?
            .expect_message(&["modprobe kvm_amd"])?;
    }
    run_collector(&["guest"])?
        .expect_code(1)?
        .expect_message(&["/dev/kvm", "modprobe kvm_amd"])?;
    Ok(())
}

/// The collector waits for KVM, and says so.
fn kvm_loaded_later() -> Result<(), Failed> {
    const COMMANDS: [&[&str]; 2] = [
        &["stat", "--json", "-e", "kvm_userspace_exit"],
        &["exits", "--json", "--kind", "userspace"],
    ];
    let _restore = Restore(load_kvm);
    resident_vm::close();
    unload(kvm_module())?;
    unload("kvm")?;
    let starting = COMMANDS.map(|args| thread::spawn(|| RunningCollector::start(args)));
    thread::sleep(Duration::from_secs(2));
    ensure(starting.iter().all(|it| !it.is_finished()), || {
        "a collector did not wait".into()
    })?;
    load_kvm();
    let mut collectors = Vec::new();
    for starting in starting {
        collectors.push(starting.join().map_err(|_| "a thread panicked")??);
    }
    let guest = Guest::prepare(&["-k", "io", "-n", "300"])?.run()?;
    for (collector, args) in collectors.into_iter().zip(COMMANDS) {
        let output = collector.end()?.expect_code(0)?;
        let report = output
            .expect_message(&["kvm module is not loaded", "waiting for it", "--no-wait"])?
            .report()?;
        let count = match args[0] {
            "stat" => event_count(&report, "kvm:kvm_userspace_exit")?,
            _ => get_number(&report, "count")?,
        };
        ensure_equal(args[0], count, guest.userspace_exits()?)?;
    }
    Ok(())
}

/// The vendor's module can be unloaded while the collector runs. kvm.ko cannot, since it defines the tracepoints and the attached programs
/// hold a reference to it. Counting continues when it is loaded again.
fn kvm_unloaded() -> Result<(), Failed> {
    let _restore = Restore(load_kvm);
    resident_vm::close();
    let collector = RunningCollector::start(&[
        "stat",
        "-I",
        "200ms",
        "--json",
        "-e",
        "kvm_userspace_exit,kvm_exit",
    ])?;
    let run_guest = || {
        Guest::prepare(&["-k", "io", "-n", "600"])?
            .run()?
            .userspace_exits()
    };
    let before = run_guest()?;
    thread::sleep(Duration::from_millis(300));
    unload(kvm_module())?;
    let result = run_program("rmmod", &["kvm"]);
    ensure(
        result.is_err() && Path::new("/sys/module/kvm").exists(),
        || "kvm was unloaded although programs are attached to its tracepoints".into(),
    )?;
    thread::sleep(Duration::from_millis(600));
    run_program("modprobe", &[kvm_module()])?;
    thread::sleep(Duration::from_millis(600));
    let after = run_guest()?;
    let output = collector.end()?.expect_code(0)?.expect_message(&[
        &format!("{} was unloaded: no VM can run", kvm_module()),
        &format!("{} was loaded", kvm_module()),
    ])?;
    ensure_equal("the total", check_intervals_sum(&output)?, before + after)
}

/// Unloads a module. Retries for a while, since closing VMs and detaching programs release their references late.
fn unload(module: &str) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match run_program("rmmod", &[module]) {
            Ok(()) => return Ok(()),
            Err(failed) if Instant::now() > deadline => return Err(failed),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
