//! Counts and times of the collector equal those of `perf kvm stat` in the same run, and the collector does not keep events
//! from perf.
//!
//! Like the collector, perf times from an exit to the next entry of the same thread. perf knows a vCPU thread only after its
//! first `kvm_entry`. It misses no exit here, because both tools start before the guest, and the first event of a vCPU is an
//! entry. perf omits an exit without an entry, which the collector counts as `open`. So for each reason, the number of samples
//! of perf is exactly `count - open`.

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

/// For tests with `kvm_userspace_exit`, which fires on every KVM.
const WITHOUT_EXIT_EVENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Perf,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("perf_sees_the_events_of_trace", WITHOUT_EXIT_EVENTS, || {
            check_perf_sees("kvm_userspace_exit", &["trace", "-e", "kvm_userspace_exit"])
        }),
        test("perf_sees_the_events_of_stat", WITHOUT_EXIT_EVENTS, || {
            check_perf_sees("kvm_userspace_exit", &["stat", "-e", "kvm_userspace_exit"])
        }),
        test("perf_sees_the_events_of_exits", REQUIREMENTS, || {
            check_perf_sees("kvm_exit", &["exits"])?;
            check_perf_sees("kvm_entry", &["exits", "--vcpu", "0"])
        }),
        test("counts_equal_perf_kvm", REQUIREMENTS, counts_agree),
        test("times_equal_perf_kvm", REQUIREMENTS, times_agree),
        test("counts_of_two_vms_equal_perf_kvm", REQUIREMENTS, two_vms),
        test(
            "lost_events_of_perf_are_detected",
            REQUIREMENTS,
            lost_events,
        ),
        test("counts_of_mmio_equal_perf_kvm", REQUIREMENTS, || {
            check_kind("mmio", "mmio")
        }),
        test("counts_of_pio_equal_perf_kvm", REQUIREMENTS, || {
            check_kind("pio", "ioport")
        }),
        test("counts_of_msr_equal_perf_kvm", REQUIREMENTS, || {
            check_kind("msr", "msr")
        }),
    ]
}

/// Fails if perf misses events while the collector runs. (A program on a tracepoint can keep its events from perf.)
fn check_perf_sees(event: &str, args: &[&str]) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "500"])?;
    let pid = guest.pid.clone();
    let perf = PerfStat::start(&format!("kvm:{event}"), &pid)?;
    let collector = RunningCollector::start(&[args, &["--json", "-p", &pid]].concat())?;
    let guest = guest.run()?;
    collector.end()?.expect_code(0)?;
    let count = perf.end()?;
    if event == "kvm_userspace_exit" {
        ensure_equal("the count of perf", count, guest.userspace_exits()?)
    } else {
        // Interrupts of the host cause additional exits.
        let min: u64 = guest.exits()?.values().sum();
        ensure(count >= min, || {
            format!("perf counted {count} {event} while {args:?} ran, expected at least {min}")
        })
    }
}

fn counts_agree() -> Result<(), Failed> {
    let kinds = "io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd";
    let guest = Guest::prepare(&["-k", kinds, "-n", "500", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let collector = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    let perf = Recording::start()?;
    let guest = guest.run()?;
    let perf = perf.end()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    // The last exit of each vCPU, which ends its program.
    ensure_equal("exits without an entry", get_number(&report, "open")?, 2)?;
    let theirs = sample_counts(&perf.run_report(VMEXIT, &pid)?);
    ensure_equal(
        "exits per reason, compared with perf",
        timed_counts(get_list(&report, "rows")?)?,
        theirs,
    )?;
    let min: u64 = guest.exits_by_name()?.values().sum();
    ensure(get_number(&report, "count")? >= min, || {
        format!("too few exits: {report}")
    })
}

fn two_vms() -> Result<(), Failed> {
    let kinds = "io,cpuid,mmio,msr,hlt";
    let one = Guest::prepare(&["-k", kinds, "-n", "400", "--vcpus", "2", "--name", "one"])?;
    let two = Guest::prepare(&["-k", kinds, "-n", "700", "--name", "two"])?;
    let pids = [one.pid.clone(), two.pid.clone()];
    let collector = RunningCollector::start(&[
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
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    for pid in &pids {
        let ours: Vec<_> = get_list(&report, "rows")?
            .iter()
            .filter(|row| row["pid"].as_u64() == pid.parse().ok())
            .collect();
        ensure(ours.len() >= 5, || format!("too few rows: {report}"))?;
        let theirs = sample_counts(&perf.run_report(VMEXIT, pid)?);
        ensure_equal(
            "exits of a VM, compared with perf",
            timed_counts(ours)?,
            theirs,
        )?;
    }
    Ok(())
}

/// The duration from which the overhead of two tools is negligible.
const LONG_US: f64 = 200.0;

/// Returns the maximum difference of two times in us.
///
/// Both tools have a probe at the same tracepoints, and the collector's probe runs first. The work of one tool after its
/// clock reading is measured by the other tool: it adds time at the exit and removes time at the entry. The two nearly
/// cancel out; under emulation, 2 to 5 us remain, and more on a slow host.
fn tolerance_us(us: f64) -> f64 {
    0.02 * us + 6.0
}

/// The number of runs in which a time must differ before the test fails.
///
/// If the emulated processor is stopped between the clock readings of the two tools, for example by the scheduler of the
/// host, only one of them measures that. This happens by chance and affects a different number in each run, while a wrong
/// measurement is wrong in every run. Counts are compared in every run.
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
        format!("different from perf in {RUNS} runs: {differing:?}")
    })
}

/// A reason, and the name of one of its times.
type TimeKey = (String, &'static str);

/// Runs a guest. Returns the times that differ from those of perf: ours and theirs.
fn differing_times() -> Result<BTreeMap<TimeKey, (f64, f64)>, Failed> {
    // With the sleep, exits to user space take at least 200 us. The kernel handles cpuid and msr.
    let kinds = "io,cpuid,mmio,msr,hlt";
    // One vCPU: the emulator's single thread switches between two busy processors every few ms, so a switch between the
    // clock readings of the two tools would be frequent.
    let guest = Guest::prepare(&["-k", kinds, "-n", "1000", "--sleep", "200us"])?;
    let pid = guest.pid.clone();
    let collector = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    let perf = Recording::start()?;
    guest.run()?;
    let perf = perf.end()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let theirs = perf.run_report(VMEXIT, &pid)?;
    ensure_equal(
        "exits per reason",
        timed_counts(get_list(&report, "rows")?)?,
        sample_counts(&theirs),
    )?;

    let mut differing = BTreeMap::new();
    let mut long = 0;
    println!();
    for row in get_list(&report, "rows")? {
        let name = row["reason"].as_str().ok_or("no reason")?;
        let timed = get_number(row, "count")? - get_number(row, "open")?;
        if timed < 1000 {
            // Too few for a mean. These are interrupts.
            continue;
        }
        let theirs = theirs.get(name).ok_or("perf lacks a reason")?;
        let is_long = theirs.mean_us >= LONG_US;
        long += u32::from(is_long);
        println!("times: {name}: {timed} exits");
        for (time, ours, theirs, exits) in [
            ("total", read_us(row, "total_ns")?, theirs.total_us(), timed),
            ("min", read_us(row, "min_ns")?, theirs.min_us, 1),
            ("max", read_us(row, "max_ns")?, theirs.max_us, 1),
        ] {
            let difference = (ours - theirs) / theirs;
            println!(
                "  {time:5} {ours:12.2} us, perf {theirs:12.2} us, {:+.2} %",
                difference * 100.0
            );
            // The longest of many short exits was interrupted. The interruption is often between the clock readings.
            let is_comparable = time != "max" || is_long;
            let difference_us = (mean(ours, exits) - mean(theirs, exits)).abs();
            if is_comparable && difference_us > tolerance_us(mean(theirs, exits)) {
                differing.insert((name.to_owned(), time), (ours, theirs));
            }
        }
    }
    ensure(long >= 3, || format!("only {long} reasons with long exits"))?;
    Ok(differing)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn mean(total_us: f64, count: u64) -> f64 {
    total_us / count as f64
}

/// Compares `exits --kind` with `perf kvm stat report --event`, per address, port or MSR, and direction.
fn check_kind(kind: &str, event: &str) -> Result<(), Failed> {
    let kinds = "io,io-read,mmio,mmio-read,msr,msr-read";
    let guest = Guest::prepare(&["-k", kinds, "-n", "300", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    let collector = RunningCollector::start(&["exits", "--json", "--kind", kind, "-p", &pid])?;
    let perf = Recording::start()?;
    guest.run()?;
    let perf = perf.end()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    let mut theirs = BTreeMap::new();
    for (key, row) in perf.run_report(event, &pid)? {
        *theirs.entry(parse_access(&key)?).or_default() += row.count;
    }
    // At least one key for each direction.
    ensure(theirs.len() >= 2, || format!("too few keys: {theirs:?}"))?;
    ensure_equal(
        "counts per key, compared with perf",
        counts_by_access(&report, kind)?,
        theirs,
    )
}

/// The address, port or MSR of an access, and whether it was a write.
type Access = (u64, bool);

/// Returns the timed counts of the rows per access. perf omits the last `out` of a guest, since no entry follows.
fn counts_by_access(report: &Value, kind: &str) -> Result<BTreeMap<Access, u64>, Failed> {
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

/// Parses a key of perf, such as `0xADDRESS:DIRECTION`.
fn parse_access(key: &str) -> Result<Access, Failed> {
    let parse = || {
        let (address, direction) = key.trim().split_once(':')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        let is_write = match direction.to_ascii_lowercase().as_str() {
            "w" | "pout" => true,
            "r" | "pin" => false,
            _ => return None,
        };
        Some((address, is_write))
    };
    parse().ok_or_else(|| format!("not the key of an access: `{key}`").into())
}

fn lost_events() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "1000"])?;
    let perf = Recording::start_with(&["-m", "1"])?;
    // While perf is stopped, it cannot empty its buffer of one page.
    perf.signal(Signal::STOP)?;
    let result = guest.run();
    perf.signal(Signal::CONT)?;
    result?;
    let losses = perf.end_allowing_losses()?.read_losses()?;
    ensure(losses.values().sum::<u64>() > 0, || {
        "perf must have lost events, but does not report it".to_owned()
    })
}

/// Reads a time in ns. Returns it in us.
fn read_us(row: &Value, name: &str) -> Result<f64, Failed> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(get_number(row, name)? as f64 / 1000.0)
}

fn sample_counts(rows: &BTreeMap<String, Row>) -> BTreeMap<String, u64> {
    rows.iter()
        .map(|(name, row)| (name.clone(), row.count))
        .collect()
}

/// Returns the number of exits with an entry, by reason.
fn timed_counts<'a>(
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
