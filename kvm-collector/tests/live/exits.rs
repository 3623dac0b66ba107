//! `exits` counts the exits of guests exactly, per reason, VM and vCPU, and when its table is full.

use std::{collections::BTreeMap, fs};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    arch::{KINDS, REASON_FIELD},
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    counts::event_count,
    exit_reasons,
    ftrace_instance::FtraceInstance,
    guest::{Guest, GuestReport},
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    temp_files::TempDir,
};

pub(crate) const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("exits_are_exact_in_long_mode", REQUIREMENTS, || {
            exits_are_exact("long")
        }),
        test("exits_are_exact_in_real_mode", REQUIREMENTS, || {
            exits_are_exact("real")
        }),
        test(
            "exits_have_the_names_of_the_kernel",
            REQUIREMENTS,
            reason_names,
        ),
        test("exits_csv_equals_json", REQUIREMENTS, csv_equals_json),
        test(
            "exits_are_counted_per_vm_and_vcpu",
            REQUIREMENTS,
            vms_and_vcpus,
        ),
        test("a_full_table_counts_lost_exits", REQUIREMENTS, full_table),
        test(
            "a_full_table_is_logged_with_vv",
            REQUIREMENTS,
            full_table_is_logged,
        ),
    ]
}

fn exits_are_exact(mode: &str) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "2000", "--mode", mode])?;
    let collector = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let expected = guest.run()?.exits()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_equal(
        "exits per reason",
        exit_reasons::without_host_exits(counts_by_code(&report)?),
        expected,
    )?;
    ensure_nothing_lost(&report)?;
    // The last exit ends the guest, so no entry follows.
    ensure_equal("exits without an entry", get_number(&report, "open")?, 1)?;
    check_times_and_sums(&report)
}

/// Fails unless the totals are the sums of the rows, and min <= mean <= max in each row.
fn check_times_and_sums(report: &Value) -> Result<(), Failed> {
    let (mut count, mut time) = (0, 0);
    for row in get_list(report, "rows")? {
        count += get_number(row, "count")?;
        time += get_number(row, "total_ns")?;
        let times: Vec<_> = ["min_ns", "mean_ns", "max_ns"]
            .iter()
            .map(|key| get_number(row, key))
            .collect::<Result<_, _>>()?;
        let timed = get_number(row, "count")? - get_number(row, "open")?;
        ensure(times.is_sorted() && (timed == 0 || times[0] > 0), || {
            format!("min, mean, max: {row}")
        })?;
        if let Some(mean) = get_number(row, "total_ns")?.checked_div(timed) {
            ensure_equal("the mean", times[1], mean)?;
        }
    }
    ensure_equal("the sum of counts", get_number(report, "count")?, count)?;
    ensure_equal("the sum of times", get_number(report, "total_ns")?, time)
}

fn reason_names() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "100"])?;
    let collector = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let expected = guest.run()?.exits_by_name()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    let mut counts = BTreeMap::new();
    for row in get_list(&report, "rows")? {
        if !exit_reasons::is_caused_by_host(get_number(row, "reason_code")?) {
            let name = row["reason"].as_str().ok_or("no reason")?;
            counts.insert(name.to_owned(), get_number(row, "count")?);
        }
    }
    ensure_equal("exits by name", counts, expected)
}

fn csv_equals_json() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "300", "--vcpus", "2"])?;
    let args = ["--by", "vm,vcpu,reason", "-p", &guest.pid];
    let json = RunningCollector::start(&[&["exits", "--json"], &args[..]].concat())?;
    let folder = TempDir::new("csv")?;
    let loss_file = folder.file("loss.json");
    let csv = ["exits", "--csv", "--loss", &loss_file];
    let csv = RunningCollector::start(&[&csv, &args[..]].concat())?;
    guest.run()?;
    let json = json.end()?.expect_code(0)?.report()?;
    let csv = csv.end()?.expect_code(0)?;
    let mut expected = BTreeMap::new();
    for row in get_list(&json, "rows")? {
        let key = ["pid", "vcpu", "reason_code"].map(|name| row[name].to_string());
        expected.insert(key, get_number(row, "count")?);
    }
    let mut rows = BTreeMap::new();
    let mut reader = csv::Reader::from_reader(csv.stdout.as_bytes());
    let headers = reader.headers()?.clone();
    for record in reader.records() {
        let record = record?;
        let cell = |name| {
            headers
                .iter()
                .position(|header| header == name)
                .and_then(|at| record.get(at))
                .map(str::to_owned)
                .ok_or_else(|| Failed::from(format!("no column {name} in {headers:?}")))
        };
        let key = [cell("pid")?, cell("vcpu")?, cell("reason_code")?];
        rows.insert(key, cell("count")?.parse()?);
    }
    ensure_nothing_lost(&json)?;
    let losses: Value = serde_json::from_slice(&fs::read(&loss_file)?)?;
    ensure_equal("losses", &losses["loss"], &json["loss"])?;
    ensure_equal("csv and json", rows, expected)
}

fn vms_and_vcpus() -> Result<(), Failed> {
    let one = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2", "--name", "one"])?;
    let two = Guest::prepare(&["-k", KINDS, "-n", "700", "--vcpus", "2", "--name", "two"])?;
    let both = format!("{},{}", one.pid, two.pid);
    let (one_pid, two_pid) = (one.pid.clone(), two.pid.clone());
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("kvm/kvm_exit", &format!("common_pid,{REASON_FIELD}"))?;
    let (one_tids, two_tids) = (one.tids.clone(), two.tids.clone());
    let by_all =
        RunningCollector::start(&["exits", "--json", "--by", "vm,vcpu,reason", "-p", &both])?;
    let by_pid =
        RunningCollector::start(&["exits", "--json", "--by", "vm,reason", "-p", &one_pid])?;
    let by_vcpu = RunningCollector::start(&[
        "exits",
        "--json",
        "--by",
        "vm,reason",
        "-p",
        &both,
        "--vcpu",
        "1",
    ])?;
    let by_name =
        RunningCollector::start(&["exits", "--json", "--by", "vm,reason", "--vm", "two"])?;
    let stat = RunningCollector::start(&[
        "stat", "--json", "-e", "kvm_pio", "-p", &both, "--vcpu", "1", "--per-vm",
    ])?;
    let trace = RunningCollector::start(&[
        "trace", "--json", "-e", "kvm_pio", "-p", &both, "--vcpu", "1",
    ])?;
    let mut guests = [one, two];
    for guest in &mut guests {
        guest.start()?;
    }
    let [one, two] = guests.map(Guest::finish);
    let (one, two) = (one?, two?);
    let exits_of_one = [
        with_repeated_faults(&oracle, one_tids[0], one.vcpu_exits(0)?)?,
        with_repeated_faults(&oracle, one_tids[1], one.vcpu_exits(1)?)?,
    ];
    let exits_of_two = [
        with_repeated_faults(&oracle, two_tids[0], two.vcpu_exits(0)?)?,
        with_repeated_faults(&oracle, two_tids[1], two.vcpu_exits(1)?)?,
    ];

    let report = end_and_read_report("by all", by_all)?;
    let mut expected = BTreeMap::new();
    for (pid, name, vcpus) in [
        (&one_pid, "one", &exits_of_one),
        (&two_pid, "two", &exits_of_two),
    ] {
        for (vcpu, exits) in (0..).zip(vcpus) {
            for (&code, &count) in exits {
                expected.insert((pid.clone(), name.to_owned(), Some(vcpu), code), count);
            }
        }
    }
    ensure_equal("--by vm,vcpu,reason", counts_by_row(&report)?, expected)?;

    let rows_of_vm = |pid: &str, name: &str, exits: &[BTreeMap<u64, u64>]| -> BTreeMap<_, _> {
        sum(exits)
            .into_iter()
            .map(|(code, count)| ((pid.to_owned(), name.to_owned(), None, code), count))
            .collect()
    };
    let report = end_and_read_report("-p", by_pid)?;
    ensure_equal(
        "-p",
        counts_by_row(&report)?,
        rows_of_vm(&one_pid, "one", &exits_of_one),
    )?;
    let report = end_and_read_report("--vm", by_name)?;
    ensure_equal(
        "--vm",
        counts_by_row(&report)?,
        rows_of_vm(&two_pid, "two", &exits_of_two),
    )?;

    let report = end_and_read_report("--vcpu", by_vcpu)?;
    let mut expected = rows_of_vm(&one_pid, "one", &exits_of_one[1..]);
    expected.extend(rows_of_vm(&two_pid, "two", &exits_of_two[1..]));
    ensure_equal("--vcpu", counts_by_row(&report)?, expected)?;

    let out_count = |guest: &GuestReport| guest.operation_count(1, "io");
    let report = end_and_read_report("stat --vcpu", stat)?;
    ensure_equal(
        "stat --vcpu",
        event_count(&report, "kvm:kvm_pio")?,
        out_count(&one)? + out_count(&two)?,
    )?;
    for vm in get_list(&report, "vms")? {
        let guest = if vm["vm"] == "one" { &one } else { &two };
        ensure_equal(
            "stat --vcpu --per-vm",
            event_count(vm, "kvm:kvm_pio")?,
            out_count(guest)?,
        )?;
    }
    ensure_equal("VMs of stat", get_list(&report, "vms")?.len(), 2)?;

    let lines = trace.end()?.expect_code(0)?.json()?;
    for (pid, guest) in [(&one_pid, &one), (&two_pid, &two)] {
        let of_pid = lines
            .iter()
            .filter(|line| line["pid"].as_u64() == pid.parse().ok());
        ensure_equal("trace --vcpu", of_pid.count() as u64, out_count(guest)?)?;
    }
    Ok(())
}

fn sum(exits: &[BTreeMap<u64, u64>]) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for (&code, &count) in exits.iter().flatten() {
        *sums.entry(code).or_default() += count;
    }
    sums
}

/// Adds the repeated page faults of a vCPU thread to the exits that its guest reports.
///
/// If two vCPUs fault for the same page table at the same time, KVM lets one of them fault again. That can happen once per
/// level of the tables. The guest does not notice it, but the hist trigger counts it.
fn with_repeated_faults(
    oracle: &FtraceInstance,
    tid: u32,
    mut exits: BTreeMap<u64, u64>,
) -> Result<BTreeMap<u64, u64>, Failed> {
    for (keys, count) in oracle.read_histogram("kvm/kvm_exit", &["common_pid", REASON_FIELD])? {
        let is_page_fault = [
            exit_reasons::reason_code("npf")?,
            exit_reasons::reason_code("EPT_VIOLATION")?,
        ]
        .contains(&keys[1]);
        if keys[0] == u64::from(tid)
            && is_page_fault
            && let Some(reported) = exits.get_mut(&keys[1])
        {
            ensure((*reported..=*reported + 5).contains(&count), || {
                format!("{count} page faults, but the guest reports {reported}")
            })?;
            *reported = count;
        }
    }
    Ok(exits)
}

fn full_table() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "500"])?;
    let mut oracle = FtraceInstance::new()?;
    oracle.add_histogram("kvm/kvm_exit", "common_pid")?;
    let collector =
        RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--max-rows", "2"])?;
    let tids = guest.tids.clone();
    guest.run()?;
    let report = collector.end()?.expect_code(0)?.report()?;
    let loss = &report["loss"];
    let map_full = get_number(loss, "map_full")?;
    ensure(map_full > 0, || format!("the table never filled: {report}"))?;
    ensure_equal("unmatched", get_number(loss, "unmatched")?, 0)?;
    ensure_equal(
        "counted and lost exits",
        get_number(&report, "count")? + map_full,
        oracle.count_in_threads("kvm/kvm_exit", &tids)?,
    )
}

fn full_table_is_logged() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "cpuid,msr", "-n", "50"])?;
    let collector = RunningCollector::start(&[
        "-vv",
        "exits",
        "--json",
        "-p",
        &guest.pid,
        "--max-rows",
        "1",
    ])?;
    guest.run()?;
    collector
        .end()?
        .expect_code(0)?
        .expect_message(&["no row for subcode"])?;
    Ok(())
}

/// Ends a collector, and returns its report. Fails if events were lost; `name` is part of the message.
fn end_and_read_report(name: &str, collector: RunningCollector) -> Result<Value, Failed> {
    let report = collector.end()?.expect_code(0)?.report()?;
    ensure_nothing_lost(&report).map_err(|failed| {
        Failed::from(format!("{name}: {}", failed.message().unwrap_or_default()))
    })?;
    Ok(report)
}

/// Returns the exit counts of a report of `exits` per reason code.
pub(crate) fn counts_by_code(report: &Value) -> Result<BTreeMap<u64, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in get_list(report, "rows")? {
        *counts.entry(get_number(row, "reason_code")?).or_default() += get_number(row, "count")?;
    }
    Ok(counts)
}

/// The key of a row: process id, VM name, vCPU and reason code.
type RowKey = (String, String, Option<u64>, u64);

/// Returns the exit counts of a report of `exits` per row, without the exits that the host causes.
fn counts_by_row(report: &Value) -> Result<BTreeMap<RowKey, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in get_list(report, "rows")? {
        let code = get_number(row, "reason_code")?;
        let name = row["vm"].as_str().ok_or("no vm")?.to_owned();
        if !exit_reasons::is_caused_by_host(code) {
            let key = (row["pid"].to_string(), name, row["vcpu"].as_u64(), code);
            counts.insert(key, get_number(row, "count")?);
        }
    }
    Ok(counts)
}
