//! `stat` and `trace` count the events of each guest exactly. These tests need no hardware virtualization, since
//! `kvm_userspace_exit` fires on every KVM.

use std::{collections::BTreeMap, fs};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    guest::Guest,
    process::FinishedProcess,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    temp_files::TempDir,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const EVENT: &str = "kvm:kvm_userspace_exit";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "userspace_exits_are_counted_exactly",
            REQUIREMENTS,
            counts_are_exact,
        ),
        test("stat_csv_equals_json", REQUIREMENTS, csv_equals_json),
        test(
            "stat_text_contains_the_count_and_the_loss",
            REQUIREMENTS,
            text_contains_the_count,
        ),
        test("stat_intervals_add_up", REQUIREMENTS, intervals_add_up),
    ]
}

fn counts_are_exact() -> Result<(), Failed> {
    let mut one = Guest::prepare(&["-k", "io,cpuid", "-n", "1234"])?;
    let mut other = Guest::prepare(&["-k", "io,mmio,hlt", "-n", "777", "--mode", "real"])?;
    let filtered =
        RunningCollector::start(&["stat", "--json", "-e", "kvm_userspace_exit", "-p", &one.pid])?;
    let traced = RunningCollector::start(&[
        "trace",
        "--json",
        "-e",
        "kvm_userspace_exit",
        "-p",
        &one.pid,
    ])?;
    let all = RunningCollector::start(&["stat", "--json", "-e", "kvm_userspace_exit", "--per-vm"])?;
    let (one_pid, other_pid) = (one.pid.clone(), other.pid.clone());
    let one_tids = one.tids.clone();
    one.start()?;
    other.start()?;
    let one = one.finish()?.userspace_exits()?;
    let other = other.finish()?.userspace_exits()?;
    let [filtered, traced, all] = [filtered.end()?, traced.end()?, all.end()?];
    // The expected numbers follow from the arguments. Each guest ends with one more `out`.
    ensure(one >= 1235 && other > 3 * 777, || {
        format!("the guests report {one} and {other}")
    })?;

    let filtered = filtered.expect_code(0)?.report()?;
    ensure_equal("stat -p", event_count(&filtered, EVENT)?, one)?;
    ensure_nothing_lost(&filtered)?;

    let lines = traced.expect_code(0)?.json()?;
    ensure_equal("trace -p: lines", lines.len() as u64, one)?;
    for line in &lines {
        ensure_equal(
            "the event",
            &line["event"],
            &"kvm:kvm_userspace_exit".into(),
        )?;
        ensure_equal(
            "the pid",
            get_number(line, "pid")?.to_string(),
            one_pid.clone(),
        )?;
        let tid = get_number(line, "tid")?;
        let is_vcpu_thread = one_tids.iter().any(|vcpu_tid| u64::from(*vcpu_tid) == tid);
        ensure(is_vcpu_thread, || {
            format!("not a vCPU thread of the guest: {line}")
        })?;
    }
    let times: Vec<_> = lines
        .iter()
        .map(|line| get_number(line, "time_ns"))
        .collect::<Result<_, _>>()?;
    ensure(times.is_sorted(), || {
        "the lines of one thread are not ordered by time".into()
    })?;

    let all = all.expect_code(0)?.report()?;
    ensure_nothing_lost(&all)?;
    let per_vm = counts_per_vm(&all)?;
    ensure_equal("--per-vm, one", per_vm.get(&one_pid).copied(), Some(one))?;
    ensure_equal(
        "--per-vm, the other",
        per_vm.get(&other_pid).copied(),
        Some(other),
    )?;
    ensure_equal(
        "all VMs and their sum",
        event_count(&all, EVENT)?,
        per_vm.values().sum(),
    )
}

fn csv_equals_json() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,hlt", "-n", "500"])?;
    let args = [
        "-e",
        "kvm_userspace_exit,kvm_pio",
        "--per-vm",
        "-p",
        &guest.pid,
    ];
    let json = RunningCollector::start(&[&["stat", "--json"], &args[..]].concat())?;
    let folder = TempDir::new("csv")?;
    let loss_file = folder.file("loss.json");
    let csv = ["stat", "--csv", "--loss", &loss_file];
    let csv = RunningCollector::start(&[&csv, &args[..]].concat())?;
    let pid = guest.pid.clone();
    let expected = guest.run()?.userspace_exits()?;
    let json = json.end()?.expect_code(0)?.report()?;
    let csv = csv.end()?.expect_code(0)?;
    ensure_equal("json", event_count(&json, EVENT)?, expected)?;

    let mut reader = csv::Reader::from_reader(csv.stdout.as_bytes());
    let headers = reader.headers()?.clone();
    ensure_equal(
        "the header",
        headers.iter().collect::<Vec<_>>(),
        vec![
            "start",
            "host",
            "start_ns",
            "elapsed_ns",
            "vm",
            "vm_uuid",
            "pid",
            "event",
            "count",
            "rate_per_s",
        ],
    )?;
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        rows.insert(
            (record[6].to_owned(), record[7].to_owned()),
            record[8].to_owned(),
        );
    }
    let mut expected = BTreeMap::new();
    // The rows of the VMs add up to all events, so there are no others.
    for event in get_list(&get_list(&json, "vms")?[0], "events")? {
        expected.insert(
            (pid.clone(), event_name(event)?),
            get_number(event, "count")?.to_string(),
        );
    }
    ensure_nothing_lost(&json)?;
    let losses: Value = serde_json::from_slice(&fs::read(&loss_file)?)?;
    ensure_equal("losses", &losses["loss"], &json["loss"])?;
    ensure_equal("csv and json", rows, expected)
}

fn text_contains_the_count() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-n", "4321"])?;
    let stat = RunningCollector::start(&["stat", "-e", "kvm_userspace_exit", "-p", &guest.pid])?;
    let expected = guest.run()?.userspace_exits()?;
    let output = stat.end()?.expect_code(0)?;
    let line = output
        .stdout
        .lines()
        .find(|line| line.ends_with(EVENT))
        .ok_or_else(|| format!("no line for the event: {output:?}"))?;
    // The number may have thousands separators.
    let digits: String = line
        .trim()
        .split("  ")
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    ensure(digits.starts_with(&expected.to_string()), || {
        format!("{expected} was expected in `{line}`")
    })?;
    ensure(output.stdout.contains("no events were lost"), || {
        format!("lost events, or no word about them: {output:?}")
    })
}

fn intervals_add_up() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "800", "--sleep", "500us"])?;
    let stat = RunningCollector::start(&[
        "stat",
        "--json",
        "-I",
        "100ms",
        "-e",
        "kvm_userspace_exit",
        "-p",
        &guest.pid,
    ])?;
    let expected = guest.run()?.userspace_exits()?;
    let total = check_intervals_sum(&stat.end()?.expect_code(0)?)?;
    ensure_equal("the total", total, expected)
}

/// Fails unless the counts of all intervals add up to the count in the last report. Returns this count.
pub(crate) fn check_intervals_sum(output: &FinishedProcess) -> Result<u64, Failed> {
    let mut reports = output.json()?;
    let total = reports.pop().ok_or("no report")?;
    ensure(reports.len() >= 2, || {
        format!("too few intervals: {output:?}")
    })?;
    let mut sum = 0;
    let mut elapsed = 0;
    for report in &reports {
        ensure_equal(
            "the start of an interval",
            get_number(report, "start_ns")?,
            get_number(&reports[0], "start_ns")? + elapsed,
        )?;
        sum += event_count(report, EVENT)?;
        elapsed += get_number(report, "elapsed_ns")?;
    }
    let count = event_count(&total, EVENT)?;
    ensure_equal("the sum of all intervals", sum, count)?;
    ensure_equal(
        "the length of all intervals",
        elapsed,
        get_number(&total, "elapsed_ns")?,
    )?;
    ensure_nothing_lost(&total)?;
    Ok(count)
}

/// Returns the count of an event in a report of `stat`.
pub(crate) fn event_count(report: &Value, event: &str) -> Result<u64, Failed> {
    let row = get_list(report, "events")?
        .iter()
        .find(|row| row["event"] == event)
        .ok_or_else(|| format!("no {event} in {report}"))?;
    get_number(row, "count")
}

fn event_name(event: &Value) -> Result<String, Failed> {
    Ok(event["event"]
        .as_str()
        .ok_or("an event without a name")?
        .to_owned())
}

/// Returns the count of [`EVENT`] for each VM, by process id.
fn counts_per_vm(report: &Value) -> Result<BTreeMap<String, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for vm in get_list(report, "vms")? {
        counts.insert(get_number(vm, "pid")?.to_string(), event_count(vm, EVENT)?);
    }
    Ok(counts)
}
