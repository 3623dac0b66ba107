//! `exits --kind`, `--causes` and `--slow`, compared with the report of the guest.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::MMIO_ADDRESSES,
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number, get_part},
    exit_reasons,
    exits::REQUIREMENTS as EXIT_REQUIREMENTS,
    guest::{Guest, GuestReport},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

/// The events of these kinds fire on every KVM. Their times are known only if `kvm_exit` fires as well.
const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// Value of `kvm_pio.rw` for `out`.
const OUT: u64 = 1;

/// Values of `kvm_mmio.type`.
const MMIO_READ: u64 = 1;
const MMIO_WRITE: u64 = 2;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("ports_are_counted", REQUIREMENTS, ports),
        test("mmio_addresses_are_counted", REQUIREMENTS, mmio_addresses),
        #[cfg(target_arch = "aarch64")]
        test("hypercalls_are_counted", REQUIREMENTS, hypercalls),
        #[cfg(target_arch = "aarch64")]
        test(
            "system_registers_are_counted",
            REQUIREMENTS,
            system_registers,
        ),
        test(
            "msrs_and_cpuid_leaves_are_counted",
            EXIT_REQUIREMENTS,
            msrs_and_cpuid_leaves,
        ),
        test(
            "userspace_exit_reasons_are_counted",
            REQUIREMENTS,
            userspace_exits,
        ),
        test("values_of_any_field_are_counted", REQUIREMENTS, any_field),
        test("unknown_kinds_are_errors", REQUIREMENTS, unknown_kinds),
        test(
            "time_is_the_same_by_kind_and_by_reason",
            EXIT_REQUIREMENTS,
            same_time,
        ),
        test("causes_add_up_to_their_reason", EXIT_REQUIREMENTS, causes),
        test("slow_exits_are_reported", EXIT_REQUIREMENTS, slow_exits),
        test(
            "intervals_of_exits_add_up_to_the_total",
            EXIT_REQUIREMENTS,
            intervals,
        ),
    ]
}

/// Counts per code and class.
type Counts = BTreeMap<(u64, u64), u64>;

/// Starts `exits` with a kind.
fn start_exits(kind: &str, guest: &Guest) -> Result<RunningCollector, Failed> {
    RunningCollector::start(&["exits", "--json", "--kind", kind, "-p", &guest.pid])
}

/// Ends a collector, and returns its report. Fails if events were lost.
fn end_and_read_report(collector: RunningCollector) -> Result<Value, Failed> {
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report)?;
    Ok(report)
}

/// Returns the counts of all rows.
fn read_counts(report: &Value) -> Result<Counts, Failed> {
    let mut counts = Counts::new();
    for row in get_list(report, "rows")? {
        let key = (get_number(row, "code")?, get_number(row, "class")?);
        *counts.entry(key).or_default() += get_number(row, "count")?;
    }
    Ok(counts)
}

/// Returns how many operations of this kind all vCPUs did.
fn count_operations(guest: &GuestReport, kind: &str) -> Result<u64, Failed> {
    let mut sum = 0;
    for vcpu in guest.indices()? {
        sum += guest.operation_count(vcpu, kind)?;
    }
    Ok(sum)
}

fn ports() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,io-read", "-n", "700", "--vcpus", "2"])?;
    let collector = start_exits("pio", &guest)?;
    let guest = guest.run()?;
    let counts = read_counts(&end_and_read_report(collector)?)?;
    // The guest does not report its ports, but the number of `in` and `out` instructions.
    let count_of_class = |class| -> u64 {
        let of_class = counts.iter().filter(|((_, other), _)| *other == class);
        of_class.map(|(_, count)| count).sum()
    };
    ensure_equal("outs", count_of_class(OUT), count_operations(&guest, "io")?)?;
    ensure_equal(
        "ins",
        count_of_class(0),
        count_operations(&guest, "io-read")?,
    )
}

fn mmio_addresses() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "mmio,mmio-read", "-n", "600"])?;
    let collector = start_exits("mmio", &guest)?;
    let guest = guest.run()?;
    let counts = read_counts(&end_and_read_report(collector)?)?;
    ensure_equal("addresses", counts.len(), MMIO_ADDRESSES)?;
    for (class, kind) in [(MMIO_READ, "mmio-read"), (MMIO_WRITE, "mmio")] {
        let of_class = || counts.iter().filter(|((_, other), _)| *other == class);
        ensure_equal(
            kind,
            of_class().map(|(_, count)| count).sum(),
            count_operations(&guest, kind)?,
        )?;
        // All rounds use the same address. On arm64, the start and the end of the program write to others.
        ensure(of_class().any(|(_, count)| *count == 600), || {
            format!("expected an address for 600 times {kind}: {counts:?}")
        })?;
    }
    Ok(())
}

/// On arm64, a hypercall has the number of a function.
#[cfg(target_arch = "aarch64")]
fn hypercalls() -> Result<(), Failed> {
    const PSCI_VERSION: u64 = 0x8400_0000;
    const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;

    let guest = Guest::prepare(&["-k", "hypercall", "-n", "600"])?;
    let collector = start_exits("hypercall", &guest)?;
    guest.run()?;
    let counts = read_counts(&end_and_read_report(collector)?)?;
    let counts: BTreeMap<_, _> = counts
        .iter()
        .map(|((code, _), count)| (*code, *count))
        .collect();
    let expected = BTreeMap::from([(PSCI_VERSION, 600), (PSCI_SYSTEM_OFF, 1)]);
    ensure_equal("hypercalls by function", counts, expected)
}

/// Reads of ID_AA64PFR0_EL1, into whichever general register.
#[cfg(target_arch = "aarch64")]
fn system_registers() -> Result<(), Failed> {
    const LABEL: &str = "S3_0_C0_C4_0 read";
    let guest = Guest::prepare(&["-k", "sysreg-read", "-n", "600"])?;
    let collector = start_exits("sysreg", &guest)?;
    let causes = RunningCollector::start(&["exits", "--json", "--causes", "3", "-p", &guest.pid])?;
    guest.run()?;
    let report = end_and_read_report(collector)?;
    let counts = read_counts(&report)?;
    ensure_equal("codes", counts, BTreeMap::from([((0x30_0009, 0), 600)]))?;
    ensure_equal("label", &report["rows"][0]["key"], &Value::from(LABEL))?;
    let report = end_and_read_report(causes)?;
    let rows = get_list(&report, "rows")?;
    let trap = rows.iter().find(|row| row["reason"] == "SYS64");
    let cause = &trap.ok_or("no SYS64")?["causes"][0];
    ensure_equal("cause", &cause["cause"], &Value::from(LABEL))?;
    ensure_equal("exits by cause", get_number(cause, "at_least")?, 600)
}

fn msrs_and_cpuid_leaves() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "msr,msr-read,cpuid", "-n", "500"])?;
    let msrs = start_exits("msr", &guest)?;
    let leaves = start_exits("cpuid", &guest)?;
    guest.run()?;
    let msrs = read_counts(&end_and_read_report(msrs)?)?;
    let count_of_class = |class| -> u64 {
        msrs.iter()
            .filter(|((_, other), _)| *other == class)
            .map(|(_, count)| count)
            .sum()
    };
    let (reads, writes) = (count_of_class(0), count_of_class(1));
    ensure_equal("reads and writes", (reads, writes), (500, 500))?;
    let leaves: u64 = read_counts(&end_and_read_report(leaves)?)?.values().sum();
    ensure_equal("leaves", leaves, 500)
}

fn userspace_exits() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,mmio", "-n", "400"])?;
    let collector = start_exits("userspace", &guest)?;
    let guest = guest.run()?;
    let report = end_and_read_report(collector)?;
    // The class is errno, which is not 0 if a signal interrupted KVM_RUN.
    let without_error: u64 = read_counts(&report)?
        .iter()
        .filter(|((_, errno), _)| *errno == 0)
        .map(|(_, count)| count)
        .sum();
    ensure_equal(
        "returns of KVM_RUN",
        get_number(&report, "count")?,
        guest.userspace_exits()?,
    )?;
    ensure(without_error >= 800, || {
        format!("too few exits without an error: {report}")
    })
}

fn any_field() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "300"])?;
    let collector = start_exits("kvm_pio.size", &guest)?;
    let guest = guest.run()?;
    let report = end_and_read_report(collector)?;
    ensure_equal("kind", &report["kind"], &Value::from("kvm_pio.size"))?;
    ensure_equal(
        "events",
        get_number(&report, "count")?,
        count_operations(&guest, "io")?,
    )
}

fn unknown_kinds() -> Result<(), Failed> {
    run_collector(&["exits", "--kind", "pci", "-d", "10ms"])?
        .expect_code(2)?
        .expect_message(&["`pci`", "pio", "list kinds"])?;
    run_collector(&["exits", "--kind", "kvm_nothing.at_all", "-d", "10ms"])?
        .expect_code(2)?
        .expect_message(&["kvm_nothing", "list"])?;
    run_collector(&["exits", "--kind", "kvm_pio.at_all", "-d", "10ms"])?
        .expect_code(2)?
        .expect_message(&["`at_all`", "port"])?;
    run_collector(&["exits", "--kind", "pio", "--reason", "io", "-d", "10ms"])?
        .expect_code(2)?
        .expect_message(&["--reason"])?;
    Ok(())
}

/// If all exits have a cause of one kind, the total time by kind equals the total time by reason. Each of the two collectors
/// reads the clock itself, so the times differ slightly.
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
    let by_port = start_exits("pio", &guest)?;
    guest.run()?;
    let (by_reason, by_port) = (
        end_and_read_report(by_reason)?,
        end_and_read_report(by_port)?,
    );
    ensure_equal(
        "counts",
        get_number(&by_port, "count")?,
        get_number(&by_reason, "count")?,
    )?;
    ensure_equal(
        "open exits",
        get_number(&by_port, "open")?,
        get_number(&by_reason, "open")?,
    )?;
    for field in ["total_ns", "vmm_ns"] {
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
    let collector =
        RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--causes", "8"])?;
    let by_rip = RunningCollector::start(&[
        "exits", "--json", "-p", &guest.pid, "--causes", "8", "--cause", "rip",
    ])?;
    guest.run()?;
    let (io, msr, cpuid) = (
        exit_reasons::reason_of("io")?,
        exit_reasons::reason_of("msr")?,
        exit_reasons::reason_of("cpuid")?,
    );
    for (report, events) in [
        (end_and_read_report(collector)?, true),
        (end_and_read_report(by_rip)?, false),
    ] {
        for row in get_list(&report, "rows")? {
            let name = row["reason"].as_str().unwrap_or_default();
            if ![io, msr, cpuid].contains(&name) {
                continue;
            }
            // Every exit with a time has a cause. With so few different causes, the counts are exact.
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
            if events && name == io {
                let causes = get_list(row, "causes")?.iter();
                let ports: Vec<_> = causes.map(|cause| cause["cause"].to_string()).collect();
                ensure(ports.iter().all(|port| port.contains("port 0x")), || {
                    format!("not all causes are ports: {ports:?}")
                })?;
                ensure(ports.iter().any(|port| port.contains(" in")), || {
                    format!("no cause is an `in`: {ports:?}")
                })?;
            }
        }
    }
    Ok(())
}

fn slow_exits() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "50", "--sleep", "20ms"])?;
    let collector =
        RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--slow", "15ms"])?;
    let pid = guest.pid.clone();
    guest.run()?;
    let mut lines = collector.end()?.expect_code(0)?.json()?;
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
            .map(|part| get_part(line, part))
            .sum::<Result<_, _>>()?;
        let time = get_number(line, "duration_ns")?;
        ensure_equal("the sum of the parts", parts, time)?;
        ensure(time > 15_000_000, || format!("not slow: {line}"))?;
        if line["cause"]
            .as_str()
            .is_some_and(|cause| cause.contains("port 0x3f8 out"))
        {
            io += 1;
            ensure(get_number(line, "vmm_ns")? >= 20_000_000, || {
                format!("the VMM slept for 20 ms: {line}")
            })?;
            let rip = line["guest_rip"]
                .as_str()
                .and_then(|text| text.strip_prefix("0x"))
                .and_then(|digits| u64::from_str_radix(digits, 16).ok());
            ensure(rip.is_some_and(|rip| rip > 0), || {
                format!("no hexadecimal rip: {line}")
            })?;
        }
    }
    ensure_equal("slow outs", io, 50)?;
    // The table also contains the slow exits that the guest did not cause.
    let slow_count: u64 = get_list(&report, "rows")?
        .iter()
        .map(|row| get_number(row, "count"))
        .sum::<Result<_, _>>()?;
    ensure(slow_count >= lines.len() as u64, || {
        format!("more slow exits reported than counted: {report}")
    })
}

fn intervals() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,cpuid", "-n", "400", "--sleep", "1ms"])?;
    let collector =
        RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "-I", "100ms", "--hist"])?;
    guest.run()?;
    let mut lines = collector.end()?.expect_code(0)?.json()?;
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
            sum.1 += get_number(row, "total_ns")?;
            let timed: u64 = get_list(row, "histogram")?
                .iter()
                .map(|bucket| get_number(bucket, "count"))
                .sum::<Result<_, _>>()?;
            if timed > 0 {
                let (min, mean, max) = (
                    get_number(row, "min_ns")?,
                    get_number(row, "mean_ns")?,
                    get_number(row, "max_ns")?,
                );
                // The programs update the row while it is read, so the mean may include one exit more or less.
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
        ensure_equal(
            "the exits of all intervals",
            count,
            get_number(row, "count")?,
        )?;
        ensure_equal(
            "the time of all intervals",
            time,
            get_number(row, "total_ns")?,
        )?;
        if let Some(&(min, max)) = extremes.get(&code) {
            let of_total = (get_number(row, "min_ns")?, get_number(row, "max_ns")?);
            ensure_equal("minimum and maximum of all intervals", (min, max), of_total)?;
        }
    }
    ensure_equal("the start of the total", get_number(&total, "start_ns")?, 0)
}
