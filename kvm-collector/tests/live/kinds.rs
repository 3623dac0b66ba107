//! `exits --kind`, `--causes` and `--slow`, against what the guest knows that it did.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    exits::REQUIREMENTS as EXIT_REQUIREMENTS,
    guest::{Guest, GuestReport},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

/// Events of these kinds happen on any KVM; their times are known only where `kvm_exit` happens too.
const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// Of `kvm_pio.rw`, `kvm_mmio.type` and `kvm_msr.write`.
const OUT: u64 = 1;
const MMIO_READ: u64 = 1;
const MMIO_WRITE: u64 = 2;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("ports_are_counted", REQUIREMENTS, ports),
        test("mmio_addresses_are_counted", REQUIREMENTS, addresses),
        test(
            "msrs_and_leaves_are_counted",
            EXIT_REQUIREMENTS,
            msrs_and_leaves,
        ),
        test("userspace_exits_are_counted", REQUIREMENTS, userspace),
        test("any_field_is_counted", REQUIREMENTS, any_field),
        test("unknown_kinds_are_errors", REQUIREMENTS, unknown),
        test("kinds_divide_the_same_time", EXIT_REQUIREMENTS, same_time),
        test("causes_are_under_their_reasons", EXIT_REQUIREMENTS, causes),
        test("slow_exits_are_reported", EXIT_REQUIREMENTS, slow),
        test(
            "intervals_add_up_to_the_total",
            EXIT_REQUIREMENTS,
            intervals,
        ),
    ]
}

/// Counts per code and class.
type Counts = BTreeMap<(u64, u64), u64>;

fn watch(kind: &str, guest: &Guest) -> Result<RunningCollector, Failed> {
    RunningCollector::start(&["exits", "--json", "--kind", kind, "-p", &guest.pid])
}

fn report_of(watch: RunningCollector) -> Result<Value, Failed> {
    let report = watch.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    Ok(report)
}

fn counts(report: &Value) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    for row in get_list(report, "rows")? {
        let key = (get_number(row, "code")?, get_number(row, "class")?);
        *counts.entry(key).or_default() += get_number(row, "count")?;
    }
    Ok(counts)
}

fn made(made: &GuestReport, kind: &str) -> Result<u64, Failed> {
    let mut sum = 0;
    for vcpu in made.indices()? {
        sum += made.operation_count(vcpu, kind)?;
    }
    Ok(sum)
}

fn ports() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,io-read", "-n", "700", "--vcpus", "2"])?;
    let watch = watch("pio", &guest)?;
    let guest = guest.run()?;
    let counts = counts(&report_of(watch)?)?;
    // Which ports is the guest's affair; how often in and out is known.
    let of = |class| -> u64 {
        let of_class = counts.iter().filter(|((_, it), _)| *it == class);
        of_class.map(|(_, count)| count).sum()
    };
    ensure_equal("outs", of(OUT), made(&guest, "io")?)?;
    ensure_equal("ins", of(0), made(&guest, "io-read")?)
}

fn addresses() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "mmio,mmio-read", "-n", "600"])?;
    let watch = watch("mmio", &guest)?;
    guest.run()?;
    let counts = counts(&report_of(watch)?)?;
    let classes: Vec<_> = counts
        .iter()
        .map(|((_, class), count)| (*class, *count))
        .collect();
    ensure(
        counts.len() == 2
            && classes.contains(&(MMIO_READ, 600))
            && classes.contains(&(MMIO_WRITE, 600)),
        || format!("one address read and one written, 600 times each: {counts:?}"),
    )
}

fn msrs_and_leaves() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "msr,msr-read,cpuid", "-n", "500"])?;
    let msrs = watch("msr", &guest)?;
    let leaves = watch("cpuid", &guest)?;
    guest.run()?;
    let msrs = counts(&report_of(msrs)?)?;
    let of = |class| -> u64 {
        msrs.iter()
            .filter(|it| it.0.1 == class)
            .map(|it| it.1)
            .sum()
    };
    ensure_equal("reads and writes", (of(0), of(1)), (500, 500))?;
    let leaves: u64 = counts(&report_of(leaves)?)?.values().sum();
    ensure_equal("leaves", leaves, 500)
}

fn userspace() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,mmio", "-n", "400"])?;
    let watch = watch("userspace", &guest)?;
    let guest = guest.run()?;
    let report = report_of(watch)?;
    // The class is errno, which is not 0 where a signal came.
    let clean: u64 = counts(&report)?
        .iter()
        .filter(|it| it.0.1 == 0)
        .map(|it| it.1)
        .sum();
    ensure_equal(
        "returns of KVM_RUN",
        get_number(&report, "count")?,
        guest.userspace_exits()?,
    )?;
    ensure(clean >= 800, || {
        format!("too few without an error: {report}")
    })
}

fn any_field() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "300"])?;
    let watch = watch("kvm_pio.size", &guest)?;
    let guest = guest.run()?;
    let report = report_of(watch)?;
    ensure_equal("kind", &report["kind"], &Value::from("kvm_pio.size"))?;
    ensure_equal("events", get_number(&report, "count")?, made(&guest, "io")?)
}

fn unknown() -> Result<(), Failed> {
    run_collector(&["exits", "--kind", "pci", "-d", "10ms"])?
        .expect_code(1)?
        .expect_message(&["`pci`", "mmio", "EVENT.FIELD"])?;
    run_collector(&["exits", "--kind", "kvm_nothing.at_all", "-d", "10ms"])?
        .expect_code(1)?
        .expect_message(&["kvm_nothing", "list"])?;
    run_collector(&["exits", "--kind", "kvm_pio.at_all", "-d", "10ms"])?
        .expect_code(1)?
        .expect_message(&["`at_all`", "port"])?;
    run_collector(&["exits", "--kind", "pio", "--reason", "io", "-d", "10ms"])?
        .expect_code(1)?
        .expect_message(&["--reason"])?;
    Ok(())
}

/// Exits that all are of one kind take the same time whatever they are counted by. (The two observers each read the clock; neither
/// sees what the other costs but at one end.)
fn same_time() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "1000", "--sleep", "200us"])?;
    let by_reason = RunningCollector::start(&[
        "exits",
        "--json",
        "-p",
        &guest.pid,
        "--reason",
        "io,IO_INSTRUCTION",
    ])?;
    let by_port = watch("pio", &guest)?;
    guest.run()?;
    let (by_reason, by_port) = (report_of(by_reason)?, report_of(by_port)?);
    ensure_equal(
        "counts",
        get_number(&by_port, "count")?,
        get_number(&by_reason, "count")?,
    )?;
    ensure_equal(
        "open ones",
        get_number(&by_port, "open")?,
        get_number(&by_reason, "open")?,
    )?;
    for field in ["time_ns", "vmm_ns"] {
        let sum = |report: &Value| -> Result<u64, Failed> {
            get_list(report, "rows")?
                .iter()
                .map(|row| get_number(row, field))
                .sum()
        };
        let (reason, port) = (sum(&by_reason)?, sum(&by_port)?);
        ensure(reason.abs_diff(port) * 50 < reason, || {
            format!("{field}: {reason} by reason, {port} by port")
        })?;
    }
    Ok(())
}

fn causes() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,io-read,msr,cpuid", "-n", "500"])?;
    let watch = RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--causes", "8"])?;
    let by_rip = RunningCollector::start(&[
        "exits", "--json", "-p", &guest.pid, "--causes", "8", "--cause", "rip",
    ])?;
    guest.run()?;
    for (report, events) in [(report_of(watch)?, true), (report_of(by_rip)?, false)] {
        for row in get_list(&report, "rows")? {
            let name = row["reason"].as_str().unwrap_or_default();
            if !["io", "msr", "cpuid", "IO_INSTRUCTION", "MSR_WRITE", "CPUID"].contains(&name) {
                continue;
            }
            // All that have a time have a cause, and few ones are told exactly.
            let timed = get_number(row, "count")? - get_number(row, "open")?;
            let mut sum = 0;
            for cause in get_list(row, "causes")? {
                ensure_equal(
                    "bounds",
                    get_number(cause, "at_least")?,
                    get_number(cause, "at_most")?,
                )?;
                sum += get_number(cause, "at_least")?;
            }
            ensure_equal(&format!("causes of {name}"), sum, timed)?;
            ensure_equal("others", get_number(row, "other_causes_at_most")?, 0)?;
            if events && name == "io" {
                let ports = get_list(row, "causes")?
                    .iter()
                    .map(|it| it["cause"].to_string());
                let ports: Vec<_> = ports.collect();
                ensure(ports.iter().all(|it| it.contains("port 0x")), || {
                    format!("{ports:?}")
                })?;
                ensure(ports.iter().any(|it| it.contains(" in")), || {
                    format!("{ports:?}")
                })?;
            }
        }
    }
    Ok(())
}

fn slow() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "50", "--sleep", "20ms"])?;
    let watch = RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--slow", "15ms"])?;
    let pid = guest.pid.clone();
    guest.run()?;
    let mut lines = watch.end()?.expect_code(0)?.json()?;
    let report = lines.pop().ok_or("no report")?;
    ensure_nothing_lost(&report)?;
    ensure(lines.len() >= 50, || {
        format!("{} slow exits of 50", lines.len())
    })?;
    let mut io = 0;
    for line in &lines {
        ensure_equal("view", &line["view"], &Value::from("slow_exit"))?;
        ensure_equal("pid", line["pid"].to_string(), pid.clone())?;
        let parts: u64 = ["kernel_ns", "vmm_ns", "halted_ns", "preempted_ns"]
            .iter()
            .map(|it| get_number(line, it))
            .sum::<Result<_, _>>()?;
        let time = get_number(line, "time_ns")?;
        ensure_equal("the parts' sum", parts, time)?;
        ensure(time > 15_000_000, || format!("not slow: {line}"))?;
        if line["cause"]
            .as_str()
            .is_some_and(|it| it.contains("port 0x3f8 out"))
        {
            io += 1;
            ensure(get_number(line, "vmm_ns")? >= 20_000_000, || {
                format!("the VMM slept: {line}")
            })?;
            ensure(get_number(line, "guest_rip")? > 0, || {
                format!("no rip: {line}")
            })?;
        }
    }
    ensure_equal("slow outs", io, 50)?;
    // The others, whatever the machine was doing, are in the table too.
    let longer: u64 = get_list(&report, "rows")?
        .iter()
        .map(|row| get_number(row, "count"))
        .sum::<Result<_, _>>()?;
    ensure(longer >= lines.len() as u64, || format!("{report}"))
}

fn intervals() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "400", "--sleep", "1ms"])?;
    let watch =
        RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "-I", "100ms", "--hist"])?;
    guest.run()?;
    let mut lines = watch.end()?.expect_code(0)?.json()?;
    let total = lines.pop().ok_or("no total")?;
    ensure(lines.len() >= 3, || format!("{} intervals", lines.len()))?;
    let mut sums: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut extremes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut last_end = 0;
    for line in &lines {
        ensure_equal(
            "intervals follow each other",
            get_number(line, "start_ns")?,
            last_end,
        )?;
        last_end += get_number(line, "elapsed_ns")?;
        for row in get_list(line, "rows")? {
            let sum = sums.entry(get_number(row, "reason_code")?).or_default();
            sum.0 += get_number(row, "count")?;
            sum.1 += get_number(row, "time_ns")?;
            let timed: u64 = get_list(row, "histogram")?
                .iter()
                .map(|it| get_number(it, "count"))
                .sum::<Result<_, _>>()?;
            if timed > 0 {
                let (min, mean, max) = (
                    get_number(row, "min_ns")?,
                    get_number(row, "mean_ns")?,
                    get_number(row, "max_ns")?,
                );
                // A row is read while it is counted in: the mean may be of one more or less.
                ensure(min <= max && mean <= max + max / 10, || format!("{row}"))?;
                let seen = extremes
                    .entry(get_number(row, "reason_code")?)
                    .or_insert((u64::MAX, 0));
                *seen = (seen.0.min(min), seen.1.max(max));
            }
        }
    }
    for row in get_list(&total, "rows")? {
        let code = get_number(row, "reason_code")?;
        let (count, time) = sums.get(&code).copied().unwrap_or_default();
        ensure_equal("exits in intervals", count, get_number(row, "count")?)?;
        ensure_equal("their time", time, get_number(row, "time_ns")?)?;
        if let Some(&(min, max)) = extremes.get(&code) {
            let of_total = (get_number(row, "min_ns")?, get_number(row, "max_ns")?);
            ensure_equal("the extremes in intervals", (min, max), of_total)?;
        }
    }
    ensure_equal("the total's start", get_number(&total, "start_ns")?, 0)
}
