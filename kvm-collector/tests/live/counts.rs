//! `stat` and `trace` count what guests do, exactly, and tell guests apart. Needs no hardware virtualization: returns to user space
//! are events on every KVM.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{LOSSES, ensure, equal, list, nothing_lost, number},
    guest::Guest,
    process::FinishedProcess,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const EVENT: &str = "kvm:kvm_userspace_exit";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "userspace_exits_are_counted_exactly",
            REQUIREMENTS,
            counted_exactly,
        ),
        test(
            "stat_csv_says_the_same_as_json",
            REQUIREMENTS,
            csv_says_the_same_as_json,
        ),
        test(
            "stat_text_has_the_count_and_the_loss",
            REQUIREMENTS,
            text_has_the_count,
        ),
        test("stat_intervals_add_up", REQUIREMENTS, intervals_add_up),
    ]
}

fn counted_exactly() -> Result<(), Failed> {
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
    one.release()?;
    other.release()?;
    let one = one.finish()?.userspace_exits()?;
    let other = other.finish()?.userspace_exits()?;
    let [filtered, traced, all] = [filtered.end()?, traced.end()?, all.end()?];
    // What the numbers must be is known without asking anybody: an `out` ends each guest.
    ensure(one >= 1235 && other > 3 * 777, || {
        format!("the guests say {one} and {other}")
    })?;

    let filtered = filtered.expect_code(0)?.report()?;
    equal("stat -p", count_of(&filtered, EVENT)?, one)?;
    nothing_lost(&filtered)?;

    let lines = traced.expect_code(0)?.json()?;
    equal("trace -p: lines", lines.len() as u64, one)?;
    for line in &lines {
        equal("the event", &line["event"], &"kvm_userspace_exit".into())?;
        equal("its pid", number(line, "pid")?.to_string(), one_pid.clone())?;
        let tid = number(line, "tid")?;
        ensure(one_tids.iter().any(|it| u64::from(*it) == tid), || {
            format!("not the guest's thread: {line}")
        })?;
    }
    let times: Vec<_> = lines
        .iter()
        .map(|line| number(line, "time_ns"))
        .collect::<Result<_, _>>()?;
    ensure(times.is_sorted(), || {
        "the lines of one thread are not in the order of time".into()
    })?;

    let all = all.expect_code(0)?.report()?;
    nothing_lost(&all)?;
    let per_vm = per_vm(&all)?;
    equal("--per-vm, one", per_vm.get(&one_pid).copied(), Some(one))?;
    equal(
        "--per-vm, the other",
        per_vm.get(&other_pid).copied(),
        Some(other),
    )?;
    equal(
        "all VMs and their sum",
        count_of(&all, EVENT)?,
        per_vm.values().sum(),
    )
}

fn csv_says_the_same_as_json() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,hlt", "-n", "500"])?;
    let args = [
        "-e",
        "kvm_userspace_exit,kvm_pio",
        "--per-vm",
        "-p",
        &guest.pid,
    ];
    let json = RunningCollector::start(&[&["stat", "--json"], &args[..]].concat())?;
    let csv = RunningCollector::start(&[&["stat", "--csv"], &args[..]].concat())?;
    let pid = guest.pid.clone();
    let made = guest.run()?.userspace_exits()?;
    let json = json.end()?.expect_code(0)?.report()?;
    let csv = csv.end()?.expect_code(0)?;
    equal("json", count_of(&json, EVENT)?, made)?;

    let mut reader = csv::Reader::from_reader(csv.stdout.as_bytes());
    let headers = reader.headers()?.clone();
    equal(
        "the header",
        headers.iter().collect::<Vec<_>>(),
        vec![
            "start_ns",
            "elapsed_ns",
            "vm",
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
            (record[3].to_owned(), record[4].to_owned()),
            record[5].to_owned(),
        );
    }
    let mut expected = BTreeMap::new();
    for event in list(&json, "events")? {
        expected.insert(
            (String::new(), name(event)?),
            number(event, "count")?.to_string(),
        );
    }
    for event in list(&list(&json, "vms")?[0], "events")? {
        expected.insert(
            (pid.clone(), name(event)?),
            number(event, "count")?.to_string(),
        );
    }
    nothing_lost(&json)?;
    for kind in LOSSES {
        // What the kernel does not count is empty, and null in JSON.
        let count = json["loss"][kind].as_u64();
        let cell = count.map(|it| it.to_string()).unwrap_or_default();
        expected.insert((String::new(), format!("loss:{kind}")), cell);
    }
    equal("csv and json", rows, expected)
}

fn text_has_the_count() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "4321"])?;
    let watch = RunningCollector::start(&["stat", "-e", "kvm_userspace_exit", "-p", &guest.pid])?;
    let made = guest.run()?.userspace_exits()?;
    let ended = watch.end()?.expect_code(0)?;
    let line = ended
        .stdout
        .lines()
        .find(|line| line.contains("kvm_userspace_exit"))
        .ok_or_else(|| format!("no line of the event: {ended:?}"))?;
    // 4322 may have its thousands apart.
    let digits: String = line
        .trim()
        .split("  ")
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    ensure(digits.starts_with(&made.to_string()), || {
        format!("{made} was expected in `{line}`")
    })?;
    ensure(ended.stdout.contains("lost"), || {
        format!("nothing on what was lost: {ended:?}")
    })
}

fn intervals_add_up() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "800", "--sleep", "500us"])?;
    let watch = RunningCollector::start(&[
        "stat",
        "--json",
        "-I",
        "100ms",
        "-e",
        "kvm_userspace_exit",
        "-p",
        &guest.pid,
    ])?;
    let made = guest.run()?.userspace_exits()?;
    let ended = watch.end()?.expect_code(0)?;
    let total = equal_total(&ended)?;
    equal("the total", total, made)
}

/// Checks that the intervals' counts are the last report's, which it returns.
pub(crate) fn equal_total(ended: &FinishedProcess) -> Result<u64, Failed> {
    let mut reports = ended.json()?;
    let total = reports.pop().ok_or("no report")?;
    ensure(reports.len() >= 2, || {
        format!("too few intervals: {ended:?}")
    })?;
    let mut sum = 0;
    let mut elapsed = 0;
    for report in &reports {
        equal(
            "an interval's start",
            number(report, "start_ns")?,
            number(&reports[0], "start_ns")? + elapsed,
        )?;
        sum += count_of(report, EVENT)?;
        elapsed += number(report, "elapsed_ns")?;
    }
    let count = count_of(&total, EVENT)?;
    equal("the intervals' sum", sum, count)?;
    equal(
        "the intervals' length",
        elapsed,
        number(&total, "elapsed_ns")?,
    )?;
    nothing_lost(&total)?;
    Ok(count)
}

/// What a `stat` report says of an event.
pub(crate) fn count_of(report: &Value, event: &str) -> Result<u64, Failed> {
    let row = list(report, "events")?
        .iter()
        .find(|row| row["event"] == event)
        .ok_or_else(|| format!("no {event} in {report}"))?;
    number(row, "count")
}

fn name(event: &Value) -> Result<String, Failed> {
    Ok(event["event"].as_str().ok_or("an event's name")?.to_owned())
}

/// A count of each VM's only event, by pid.
fn per_vm(report: &Value) -> Result<BTreeMap<String, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for vm in list(report, "vms")? {
        counts.insert(number(vm, "pid")?.to_string(), count_of(vm, EVENT)?);
    }
    Ok(counts)
}
