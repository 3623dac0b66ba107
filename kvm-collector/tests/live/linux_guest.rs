//! A real VMM with a real guest: QEMU runs Linux. All exits are counted, and have the names that a user expects.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::REASON_FIELD,
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    ftrace_instance::FtraceInstance,
    process::{ChildGuard, run_collector},
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    support::{self, Shown},
    temp_files::TempFile,
};

/// The guest's name for QEMU, which is the VM's name.
const NAME: &str = "linux-guest";

/// What `xtask/src/vm/linux_guest.rs` puts into the VM.
const GUEST: &str = "-kernel /guest/vmlinuz -initrd /guest/initramfs";

const MACHINE: &str = "-machine pc,accel=kvm -cpu host -smp 2 -m 256 -no-reboot -nic none -vga none \
     -display none -monitor none -L /usr/share/seabios -L /usr/share/qemu";

/// The guest ends after about ten seconds. On a busy host, everything takes longer.
const PATIENCE: Duration = Duration::from_secs(200);

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "exits_of_linux_in_qemu_are_exact_and_named",
        &[
            Requirement::Root,
            Requirement::Kvm,
            Requirement::ExitEvents,
            Requirement::Tracefs,
            Requirement::Qemu,
        ],
        exits_are_exact_and_named,
    )]
}

fn exits_are_exact_and_named() -> Result<(), Failed> {
    let console = TempFile::new("console");
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("kvm/kvm_exit", &format!("common_pid,{REASON_FIELD}"))?;
    // The VM does not exist yet, so they wait for it.
    let by_all = start_exits(&["--json", "--by", "vm,vcpu,reason"])?;
    let with_causes = start_exits(&["--causes", "--by", "vm,reason"])?;

    let mut qemu = start_qemu(console.arg()?)?;
    let vcpus = wait_for_vcpus(qemu.pid())?;
    wait_for_line(console.arg()?, "guest: idle")?;
    let top = run_collector(&["top", "--once", "-d", "2s", "--vm", NAME])?;
    ensure_equal("the exit code of QEMU", qemu.wait()?, Some(0))?;
    let by_all = by_all.end()?.expect_code(0)?.report()?;
    let with_causes = with_causes.end()?.expect_code(0)?;

    let mut expected = BTreeMap::new();
    for (keys, count) in oracle.read_histogram("kvm/kvm_exit", &["common_pid", REASON_FIELD])? {
        if let Some(vcpu) = vcpus.get(&keys[0]) {
            expected.insert((*vcpu, keys[1]), count);
        }
    }
    let all: u64 = expected.values().sum();
    println!("\nlinux: {all} exits in {} rows", expected.len());
    ensure(all > 1000, || format!("too few exits: {all}"))?;
    ensure_nothing_lost(&by_all)?;
    ensure_equal("exits per vCPU and reason", counts(&by_all)?, expected)?;
    for name in ["TSC_DEADLINE", "ICR", "EOI"] {
        ensure(with_causes.stdout.contains(name), || {
            format!("no {name} in {}", with_causes.stdout)
        })?;
    }
    ensure_idle(&top.expect_code(0)?.stdout)?;
    support::print_kernel(&fs::read_to_string("/proc/sys/kernel/osrelease")?);
    Shown::Counts.print(all);
    Ok(())
}

fn start_exits(args: &[&str]) -> Result<RunningCollector, Failed> {
    RunningCollector::start(&[&["exits", "--vm", NAME], args].concat())
}

fn start_qemu(console: &str) -> Result<ChildGuard, Failed> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(MACHINE.split_whitespace())
        .args(GUEST.split_whitespace())
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .args(["-name", &format!("guest={NAME},debug-threads=on")])
        .args(["-serial", &format!("file:{console}")]);
    ChildGuard::spawn(&mut qemu)
}

/// Waits until QEMU has both vCPU threads. Returns the vCPU's index of each thread id.
fn wait_for_vcpus(pid: u32) -> Result<BTreeMap<u64, u64>, Failed> {
    wait_for("the vCPU threads of QEMU", || {
        let mut vcpus = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
        {
            let path = thread.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            let index = name.trim().strip_prefix("CPU ");
            if let Some(index) = index.and_then(|it| it.strip_suffix("/KVM")) {
                let tid = path.file_name()?.to_str()?.parse().ok()?;
                vcpus.insert(tid, index.parse().ok()?);
            }
        }
        (vcpus.len() == 2).then_some(vcpus)
    })
}

fn wait_for_line(file: &str, line: &str) -> Result<(), Failed> {
    wait_for(line, || read_console(file).contains(line).then_some(())).map_err(|_| {
        let console = read_console(file);
        format!("the guest did not print `{line}`, but: {console}").into()
    })
}

fn read_console(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> Result<T, Failed> {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        ensure(start.elapsed() < PATIENCE, || {
            format!("{what} did not come")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the count of each vCPU and reason.
fn counts(report: &Value) -> Result<BTreeMap<(u64, u64), u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in get_list(report, "rows")? {
        ensure_equal("the name of the VM", row["vm"].as_str(), Some(NAME))?;
        let key = (get_number(row, "vcpu")?, get_number(row, "reason_code")?);
        counts.insert(key, get_number(row, "count")?);
    }
    Ok(counts)
}

/// Fails unless `top` shows that the vCPUs are idle most of the time.
fn ensure_idle(top: &str) -> Result<(), Failed> {
    let row_of = |start: &str| {
        let line = top.lines().find(|line| line.starts_with(start))?;
        // The mark of the sorted column is a word of its own.
        let words = line
            .split_whitespace()
            .map(|word| word.trim_start_matches('▼'));
        Some(words.collect::<Vec<_>>())
    };
    let idle = || {
        let column = row_of("VM ")?.iter().position(|title| *title == "idle%")?;
        row_of(NAME)?.get(column)?.parse::<f64>().ok()
    };
    let idle = idle().ok_or_else(|| format!("no idle% of {NAME} in {top}"))?;
    ensure(idle > 50.0, || format!("idle {idle} %: {top}"))
}
