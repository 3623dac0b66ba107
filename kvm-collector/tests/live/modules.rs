//! Without tracefs, without KVM, and with KVM going away: only in a machine that may be wrecked. Each test leaves it as it was.

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    counts::check_intervals_sum,
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
        test("tracefs_is_mounted_and_said", REQUIREMENTS, no_tracefs),
        test("no_privilege_is_said", REQUIREMENTS, no_privilege),
        test("kvm_not_loaded_is_said", REQUIREMENTS, kvm_not_loaded),
        test(
            "kvm_unloaded_meanwhile",
            REQUIREMENTS,
            kvm_unloaded_meanwhile,
        ),
    ]
}

/// Puts the machine back in order, also after a failure.
struct Restore(fn());

impl Drop for Restore {
    fn drop(&mut self) {
        self.0();
    }
}

fn shell(program: &str, args: &[&str]) -> Result<(), Failed> {
    let output = Command::new(program).args(args).output()?;
    ensure(output.status.success(), || {
        format!("{program} {args:?}: {output:?}")
    })
}

fn mount() {
    if !Path::new(TRACEFS).join("events").exists() {
        let _ = shell("mount", &["-t", "tracefs", "tracefs", TRACEFS]);
    }
}

fn load() {
    let _ = shell("modprobe", &["kvm_amd"]);
    resident_vm::create();
}

fn no_tracefs() -> Result<(), Failed> {
    let _restore = Restore(mount);
    shell("umount", &[TRACEFS])?;
    run_as_nobody(&["stat", "-d", "100ms"])?
        .expect_code(1)?
        .expect_message(&["mount -t tracefs tracefs /sys/kernel/tracing", "root"])?;
    ensure(!Path::new(TRACEFS).join("events").exists(), || {
        "nobody mounted it".into()
    })?;
    let ended = run_collector(&["stat", "-d", "100ms", "-e", "kvm_userspace_exit", "--json"])?
        .expect_code(0)?
        .expect_message(&["tracefs was not mounted", "mounted it at", TRACEFS])?;
    ensure_equal("the report", &ended.report()?["view"], &"stat".into())?;
    ensure(Path::new(TRACEFS).join("events").exists(), || {
        "it was not mounted".into()
    })
}

/// tracefs may be read by everybody; loading programs stays a privilege.
fn no_privilege() -> Result<(), Failed> {
    let _restore = Restore(|| {
        let _ = shell("mount", &["-o", "remount,mode=700", TRACEFS]);
        let _ = shell(
            "sh",
            &["-c", "find /sys/kernel/tracing -exec chmod o-rx {} + "],
        );
    });
    shell("mount", &["-o", "remount,mode=755", TRACEFS])?;
    shell(
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
    let _restore = Restore(load);
    resident_vm::close();
    unload("kvm_amd")?;
    unload("kvm")?;
    for command in ["stat", "exits", "trace"] {
        run_collector(&[command, "-d", "100ms"])?
            .expect_code(1)?
            .expect_message(&["modprobe kvm_amd"])?;
    }
    run_collector(&["guest"])?
        .expect_code(1)?
        .expect_message(&["/dev/kvm", "modprobe kvm_amd"])?;
    Ok(())
}

/// The module for the processor can go while its tracepoints are watched. kvm.ko itself, in which they are, cannot: the attached
/// programs hold it. So "kvm unloaded meanwhile" is kvm_amd unloaded, and counting goes on when it is back.
fn kvm_unloaded_meanwhile() -> Result<(), Failed> {
    let _restore = Restore(load);
    resident_vm::close();
    let watch = RunningCollector::start(&[
        "stat",
        "-I",
        "200ms",
        "--json",
        "-e",
        "kvm_userspace_exit,kvm_exit",
    ])?;
    let guest = || {
        Guest::prepare(&["-k", "io", "-n", "600"])?
            .run()?
            .userspace_exits()
    };
    let before = guest()?;
    thread::sleep(Duration::from_millis(300));
    unload("kvm_amd")?;
    let kvm = shell("rmmod", &["kvm"]);
    ensure(
        kvm.is_err() && Path::new("/sys/module/kvm").exists(),
        || "kvm was removed while its tracepoints were watched".into(),
    )?;
    thread::sleep(Duration::from_millis(600));
    shell("modprobe", &["kvm_amd"])?;
    thread::sleep(Duration::from_millis(600));
    let after = guest()?;
    let ended = watch
        .end()?
        .expect_code(0)?
        .expect_message(&["kvm_amd was unloaded: no VM can run", "kvm_amd was loaded"])?;
    ensure_equal("the total", check_intervals_sum(&ended)?, before + after)
}

/// Removes a module. One that was just used is held a little longer: by a guest's last references, or by programs being detached.
fn unload(module: &str) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match shell("rmmod", &[module]) {
            Ok(()) => return Ok(()),
            Err(failed) if Instant::now() > deadline => return Err(failed),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}
