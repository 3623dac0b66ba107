//! `perf kvm stat`, watching the same run: it must have counted the same and measured the same; and perf must go on seeing what
//! we watch.
//!
//! What perf counts is an exit and the next entry of the same thread, as we do. It takes a thread for a vCPU's only from its first
//! `kvm_entry` on, which costs it nothing here: a guest is held at its start until both watch, and a vCPU begins by being entered.
//! An exit that nothing was entered from has no time, so perf leaves it out: with us those are `open`. So per reason
//! perf's samples are our `count - open`, to the unit.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    guest::Guest,
    perf::{PerfStat, Recording, Row, VMEXIT},
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Perf,
];

const KINDS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Perf,
];

/// Events without which there can be no exits fire on any KVM, also where kvm_exit does not.
const NEEDS_ANY_KVM: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Perf,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("perf_sees_what_trace_watches", NEEDS_ANY_KVM, || {
            perf_sees("kvm_userspace_exit", &["trace", "-e", "kvm_userspace_exit"])
        }),
        test("perf_sees_what_stat_watches", NEEDS_ANY_KVM, || {
            perf_sees("kvm_userspace_exit", &["stat", "-e", "kvm_userspace_exit"])
        }),
        test("perf_sees_what_exits_watches", REQUIREMENTS, || {
            perf_sees("kvm_exit", &["exits"])?;
            perf_sees("kvm_entry", &["exits", "--vcpu", "0"])
        }),
        test("perf_kvm_counts_the_same", REQUIREMENTS, counts_agree),
        test(
            "perf_kvm_measures_the_same_times",
            REQUIREMENTS,
            times_agree,
        ),
        test("perf_kvm_counts_two_vms_the_same", REQUIREMENTS, two_vms),
        test("losses_of_perf_are_noticed", REQUIREMENTS, losses),
        test("perf_kvm_counts_the_same_mmio", KINDS, || {
            kind_agrees("mmio", "mmio")
        }),
        test("perf_kvm_counts_the_same_pio", KINDS, || {
            kind_agrees("pio", "ioport")
        }),
        test("perf_kvm_counts_the_same_msr", KINDS, || {
            kind_agrees("msr", "msr")
        }),
    ]
}

/// A program of ours on a tracepoint can keep its events from perf: it must not.
fn perf_sees(event: &str, args: &[&str]) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "500"])?;
    let pid = guest.pid.clone();
    let alone = PerfStat::start(&format!("kvm:{event}"), &pid)?;
    let watch = RunningCollector::start(&[args, &["--json", "-p", &pid]].concat())?;
    let made = guest.run()?;
    watch.end()?.expect_code(0)?;
    let seen = alone.end()?;
    if event == "kvm_userspace_exit" {
        ensure_equal("perf's count", seen, made.userspace_exits()?)
    } else {
        // Interrupts come on top.
        let least: u64 = made.exits()?.values().sum();
        ensure(seen >= least, || {
            format!("perf saw {seen} {event} while {args:?} ran, of {least}")
        })
    }
}

fn counts_agree() -> Result<(), Failed> {
    let kinds = "io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd";
    let guest = Guest::prepare(&["-k", kinds, "-n", "500", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let watch = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    let perf = Recording::start()?;
    let made = guest.run()?;
    let perf = perf.end()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    // The one exit of each vCPU by which its program ended.
    ensure_equal("exits without an entry", get_number(&report, "open")?, 2)?;
    let theirs = counts(&perf.run_report(VMEXIT, &pid)?);
    ensure_equal("exits per reason, ours and perf's", timed(&report)?, theirs)?;
    let least: u64 = made.exits_by_name()?.values().sum();
    ensure(get_number(&report, "count")? >= least, || {
        format!("too few exits: {report}")
    })
}

fn two_vms() -> Result<(), Failed> {
    let kinds = "io,cpuid,mmio,msr,hlt";
    let one = Guest::prepare(&["-k", kinds, "-n", "400", "--vcpus", "2", "--name", "one"])?;
    let two = Guest::prepare(&["-k", kinds, "-n", "700", "--name", "two"])?;
    let pids = [one.pid.clone(), two.pid.clone()];
    let watch = RunningCollector::start(&[
        "exits",
        "--json",
        "--by",
        "vm,reason",
        "-p",
        &pids.join(","),
    ])?;
    let perf = Recording::start()?;
    let mut guests = [one, two];
    for guest in &mut guests {
        guest.start()?;
    }
    for guest in guests {
        guest.finish()?;
    }
    let perf = perf.end()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    for pid in &pids {
        let ours: Vec<_> = get_list(&report, "rows")?
            .iter()
            .filter(|row| row["pid"].as_u64() == pid.parse().ok())
            .collect();
        ensure(ours.len() >= 5, || format!("too few rows: {report}"))?;
        let theirs = counts(&perf.run_report(VMEXIT, pid)?);
        ensure_equal("exits of a VM, ours and perf's", timed_of(ours)?, theirs)?;
    }
    Ok(())
}

/// A number of perf's this long.
const LONG_US: f64 = 200.0;

/// By how much what two observers measured of the same exits may differ, as a ratio.
///
/// Both are called at the same tracepoints, we first. What the one does there after it has looked at the clock, the other one
/// measures, at the exit as time more and at the entry as time less. The two nearly cancel out: under emulation, what remains
/// is 2 to 5 us. The hundreds of us of an exit that user space handles do not feel that; the 30 to 90 us of one that the kernel handles
/// by itself do, and there the measurement of the measurement is no better.
fn tolerance(us: f64) -> f64 {
    if us >= LONG_US { 0.02 } else { 0.15 }
}

/// How often a time may be found different before it is.
///
/// Whatever stops the emulated processor between the two observers' looks at the clock (the host's scheduler above all) is in what
/// the one measured and not in what the other did. That is chance, and strikes another number in the next run; what is measured
/// wrongly is wrong in every run. Counts have no such excuse, and are compared in every run.
const RUNS: usize = 3;

fn times_agree() -> Result<(), Failed> {
    let mut differing = differing_times()?;
    for _ in 1..RUNS {
        if differing.is_empty() {
            break;
        }
        let again = differing_times()?;
        differing.retain(|number, _| again.contains_key(number));
    }
    ensure(differing.is_empty(), || {
        format!("different from perf's in {RUNS} runs: {differing:?}")
    })
}

/// A reason, and which of its numbers.
type Number = (String, &'static str);

/// The times that differ from perf's: ours and theirs.
fn differing_times() -> Result<BTreeMap<Number, (f64, f64)>, Failed> {
    // User space's exits take 200 us and more, cpuid and msr as long as the kernel needs.
    let kinds = "io,cpuid,mmio,msr,hlt";
    // One vCPU: with two busy processors, the emulator's single thread takes turns of some ms between them, and a turn that falls
    // between the two observers' looks at the clock is no rare chance.
    let guest = Guest::prepare(&["-k", kinds, "-n", "1000", "--sleep", "200us"])?;
    let pid = guest.pid.clone();
    let watch = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    let perf = Recording::start()?;
    guest.run()?;
    let perf = perf.end()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let theirs = perf.run_report(VMEXIT, &pid)?;
    ensure_equal("exits per reason", timed(&report)?, counts(&theirs))?;

    let mut differing = BTreeMap::new();
    let mut long = 0;
    println!();
    for row in get_list(&report, "rows")? {
        let name = row["reason"].as_str().ok_or("no reason")?;
        let timed = get_number(row, "count")? - get_number(row, "open")?;
        if timed < 1000 {
            // Too few for a mean: interrupts.
            continue;
        }
        let theirs = theirs.get(name).ok_or("perf has all reasons")?;
        long += u32::from(theirs.mean_us >= LONG_US);
        println!("times: {name}: {timed} exits");
        for (what, ours, theirs) in [
            ("total", us(row, "time_ns")?, theirs.total_us()),
            ("min", us(row, "min_ns")?, theirs.min_us),
            ("max", us(row, "max_ns")?, theirs.max_us),
        ] {
            let off = (ours - theirs) / theirs;
            println!(
                "  {what:5} {ours:12.2} us, by perf {theirs:12.2} us, {:+.2} %",
                off * 100.0
            );
            // A total is as exact as what it is the total of.
            let one = if what == "total" {
                mean(theirs, timed)
            } else {
                theirs
            };
            if off.abs() > tolerance(one) {
                differing.insert((name.to_owned(), what), (ours, theirs));
            }
        }
    }
    ensure(long >= 3, || {
        format!("{long} reasons with long exits: this tests too little")
    })?;
    Ok(differing)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mean(total_us: f64, count: u64) -> f64 {
    total_us / count as f64
}

/// `exits --kind` against `perf kvm stat report --event`, per address, port or MSR, and direction.
fn kind_agrees(kind: &str, event: &str) -> Result<(), Failed> {
    let kinds = "io,io-read,mmio,mmio-read,msr,msr-read";
    let guest = Guest::prepare(&["-k", kinds, "-n", "300", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let watch = RunningCollector::start(&["exits", "--json", "--kind", kind, "-p", &pid])?;
    let perf = Recording::start()?;
    guest.run()?;
    let perf = perf.end()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let mut theirs = BTreeMap::new();
    for (key, row) in perf.run_report(event, &pid)? {
        *theirs.entry(access(&key)?).or_default() += row.count;
    }
    // Both directions, at least.
    ensure(theirs.len() >= 2, || format!("too few keys: {theirs:?}"))?;
    ensure_equal(
        "counts per key, ours and perf's",
        by_access(&report, kind)?,
        theirs,
    )
}

/// What was accessed, and whether it was written.
type Access = (u64, bool);

/// Counts of the rows of a kind, of what was entered from: of the last `out` of a guest, which is not, perf says nothing.
fn by_access(report: &Value, kind: &str) -> Result<BTreeMap<Access, u64>, Failed> {
    ensure_equal("the kind", report["kind"].as_str(), Some(kind))?;
    // `kvm_mmio.type` is 2 for a write, `kvm_pio.rw` and `kvm_msr.write` are 1.
    let write = if kind == "mmio" { 2 } else { 1 };
    let mut counts = BTreeMap::new();
    for row in get_list(report, "rows")? {
        let count = get_number(row, "count")? - get_number(row, "open")?;
        if count > 0 {
            let access = (get_number(row, "code")?, get_number(row, "class")? == write);
            *counts.entry(access).or_default() += count;
        }
    }
    Ok(counts)
}

/// `0xADDRESS:DIRECTION`, as perf writes it.
fn access(key: &str) -> Result<Access, Failed> {
    let understood = || {
        let (address, direction) = key.trim().split_once(':')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        let is_write = match direction.to_ascii_lowercase().as_str() {
            "w" | "pout" => true,
            "r" | "pin" => false,
            _ => return None,
        };
        Some((address, is_write))
    };
    understood().ok_or_else(|| format!("no key of an access: `{key}`").into())
}

fn losses() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "1000"])?;
    let perf = Recording::start_with(&["-m", "1"])?;
    // Asleep, it cannot empty its one page.
    perf.signal(Signal::STOP)?;
    let made = guest.run();
    perf.signal(Signal::CONT)?;
    made?;
    let losses = perf.end_allowing_losses()?.read_losses()?;
    ensure(losses.values().sum::<u64>() > 0, || {
        "perf must have lost events, and does not say so".to_owned()
    })
}

fn us(row: &Value, name: &str) -> Result<f64, Failed> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(get_number(row, name)? as f64 / 1000.0)
}

fn counts(rows: &BTreeMap<String, Row>) -> BTreeMap<String, u64> {
    rows.iter()
        .map(|(name, row)| (name.clone(), row.count))
        .collect()
}

/// Exits that were entered from, by reason.
fn timed(report: &Value) -> Result<BTreeMap<String, u64>, Failed> {
    timed_of(get_list(report, "rows")?)
}

fn timed_of<'a>(
    rows: impl IntoIterator<Item = &'a Value>,
) -> Result<BTreeMap<String, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let name = row["reason"].as_str().ok_or("no reason")?;
        let count = get_number(row, "count")? - get_number(row, "open")?;
        if count > 0 {
            counts.insert(name.to_owned(), count);
        }
    }
    Ok(counts)
}
