//! `exits` against what the guest made: per reason, per VM, per vCPU, and with too little room.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{LOSSES, ensure, equal, list, nothing_lost, number},
    counts::count_of,
    exit_reasons,
    ftrace::Instance,
    guest::{Guest, GuestReport},
    process::FinishedProcess,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

pub(crate) const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

/// All kinds whose exits have a reason of their own.
const KINDS: &str = "io,cpuid,mmio,msr,hlt";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("exits_are_exact_in_long_mode", REQUIREMENTS, || {
            exact("long")
        }),
        test("exits_are_exact_in_real_mode", REQUIREMENTS, || {
            exact("real")
        }),
        test("exits_have_the_kernels_names", REQUIREMENTS, names),
        test(
            "exits_csv_says_the_same_as_json",
            REQUIREMENTS,
            csv_and_json,
        ),
        test("vms_and_vcpus_are_told_apart", REQUIREMENTS, told_apart),
        test("a_full_table_is_counted", REQUIREMENTS, full_table),
        test(
            "a_full_table_is_logged_with_vv",
            REQUIREMENTS,
            full_table_is_logged,
        ),
    ]
}

fn exact(mode: &str) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "2000", "--mode", mode])?;
    let watch = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let made = guest.run()?.exits()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    equal(
        "exits per reason",
        exit_reasons::without_host_exits(by_code(&report)?),
        made,
    )?;
    nothing_lost(&report)?;
    // Its last exit, by which it ended, had no entry.
    equal("exits without an entry", number(&report, "open")?, 1)?;
    plausible(&report)
}

/// Sums are of the rows, and times lie where they must.
fn plausible(report: &Value) -> Result<(), Failed> {
    let (mut count, mut time) = (0, 0);
    for row in list(report, "rows")? {
        count += number(row, "count")?;
        time += number(row, "time_ns")?;
        let times: Vec<_> = ["min_ns", "mean_ns", "max_ns"]
            .iter()
            .map(|it| number(row, it))
            .collect::<Result<_, _>>()?;
        let timed = number(row, "count")? - number(row, "open")?;
        ensure(times.is_sorted() && (timed == 0 || times[0] > 0), || {
            format!("min, mean, max: {row}")
        })?;
        if let Some(mean) = number(row, "time_ns")?.checked_div(timed) {
            equal("the mean", times[1], mean)?;
        }
    }
    equal("the sum of counts", number(report, "count")?, count)?;
    equal("the sum of times", number(report, "time_ns")?, time)
}

fn names() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "100"])?;
    let watch = RunningCollector::start(&["exits", "--json", "-p", &guest.pid])?;
    let made = guest.run()?.exits_by_name()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    let mut counts = BTreeMap::new();
    for row in list(&report, "rows")? {
        if !exit_reasons::is_caused_by_host(number(row, "reason_code")?) {
            let name = row["reason"].as_str().ok_or("no reason")?;
            counts.insert(name.to_owned(), number(row, "count")?);
        }
    }
    equal("exits by name", counts, made)
}

fn csv_and_json() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "300", "--vcpus", "2"])?;
    let args = ["--by", "vm,vcpu,reason", "-p", &guest.pid];
    let json = RunningCollector::start(&[&["exits", "--json"], &args[..]].concat())?;
    let csv = RunningCollector::start(&[&["exits", "--csv"], &args[..]].concat())?;
    guest.run()?;
    let json = json.end()?.expect_code(0)?.report()?;
    let csv = csv.end()?.expect_code(0)?;
    let mut expected = BTreeMap::new();
    for row in list(&json, "rows")? {
        let key = ["pid", "vcpu", "reason_code"].map(|it| row[it].to_string());
        expected.insert(key, number(row, "count")?);
    }
    let mut rows = BTreeMap::new();
    let mut losses = BTreeMap::new();
    let mut reader = csv::Reader::from_reader(csv.stdout.as_bytes());
    let headers = reader.headers()?.clone();
    for record in reader.records() {
        let record = record?;
        let cell = |name| {
            headers
                .iter()
                .position(|it| it == name)
                .and_then(|at| record.get(at))
                .map(str::to_owned)
                .ok_or_else(|| Failed::from(format!("no column {name} in {headers:?}")))
        };
        let count = cell("count")?;
        if let Some(kind) = cell("reason")?.strip_prefix("loss:") {
            losses.insert(kind.to_owned(), count);
        } else {
            let key = [cell("pid")?, cell("vcpu")?, cell("reason_code")?];
            rows.insert(key, count.parse()?);
        }
    }
    // What the kernel does not count is empty, and null in JSON.
    let expected_losses = LOSSES.map(|kind| {
        let count = json["loss"][kind].as_u64();
        let cell = count.map(|it| it.to_string()).unwrap_or_default();
        (kind.to_owned(), cell)
    });
    nothing_lost(&json)?;
    equal("losses", losses, BTreeMap::from(expected_losses))?;
    equal("csv and json", rows, expected)
}

fn told_apart() -> Result<(), Failed> {
    let one = Guest::prepare(&["-k", KINDS, "-n", "400", "--vcpus", "2", "--name", "one"])?;
    let two = Guest::prepare(&["-k", KINDS, "-n", "700", "--vcpus", "2", "--name", "two"])?;
    let both = format!("{},{}", one.pid, two.pid);
    let (one_pid, two_pid) = (one.pid.clone(), two.pid.clone());
    let mut oracle = Instance::new()?;
    oracle.count("kvm/kvm_exit", "common_pid,exit_reason")?;
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
        guest.release()?;
    }
    let [one, two] = guests.map(Guest::finish);
    let (one, two) = (one?, two?);
    let of_one = [
        with_refaults(&oracle, one_tids[0], one.exits_of(0)?)?,
        with_refaults(&oracle, one_tids[1], one.exits_of(1)?)?,
    ];
    let of_two = [
        with_refaults(&oracle, two_tids[0], two.exits_of(0)?)?,
        with_refaults(&oracle, two_tids[1], two.exits_of(1)?)?,
    ];

    let report = report_of("by all", by_all)?;
    let mut expected = BTreeMap::new();
    for (pid, name, made) in [(&one_pid, "one", &of_one), (&two_pid, "two", &of_two)] {
        for (vcpu, made) in (0..).zip(made) {
            for (&code, &count) in made {
                expected.insert((pid.clone(), name.to_owned(), Some(vcpu), code), count);
            }
        }
    }
    equal("--by vm,vcpu,reason", rows(&report)?, expected)?;

    let of_vm = |pid: &str, name: &str, exits: &[BTreeMap<u64, u64>]| -> BTreeMap<_, _> {
        sum(exits)
            .into_iter()
            .map(|(code, count)| ((pid.to_owned(), name.to_owned(), None, code), count))
            .collect()
    };
    let report = report_of("-p", by_pid)?;
    equal("-p", rows(&report)?, of_vm(&one_pid, "one", &of_one))?;
    let report = report_of("--vm", by_name)?;
    equal("--vm", rows(&report)?, of_vm(&two_pid, "two", &of_two))?;

    let report = report_of("--vcpu", by_vcpu)?;
    let mut expected = of_vm(&one_pid, "one", &of_one[1..]);
    expected.extend(of_vm(&two_pid, "two", &of_two[1..]));
    equal("--vcpu", rows(&report)?, expected)?;

    let out = |made: &GuestReport| made.made_by(1, "io");
    let report = report_of("stat --vcpu", stat)?;
    equal(
        "stat --vcpu",
        count_of(&report, "kvm:kvm_pio")?,
        out(&one)? + out(&two)?,
    )?;
    for vm in list(&report, "vms")? {
        let made = if vm["vm"] == "one" { &one } else { &two };
        equal(
            "stat --vcpu --per-vm",
            count_of(vm, "kvm:kvm_pio")?,
            out(made)?,
        )?;
    }
    equal("VMs of stat", list(&report, "vms")?.len(), 2)?;

    let lines = trace.end()?.expect_code(0)?.json()?;
    for (pid, made) in [(&one_pid, &one), (&two_pid, &two)] {
        let of_pid = lines
            .iter()
            .filter(|line| line["pid"].as_u64() == pid.parse().ok());
        equal("trace --vcpu", of_pid.count() as u64, out(made)?)?;
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

/// Page faults of vCPUs that start together: where two map the same table at once, KVM lets one of them fault again. The guest
/// cannot know that; a hist trigger does. It may be one for each level of the tables.
fn with_refaults(
    oracle: &Instance,
    tid: u32,
    mut made: BTreeMap<u64, u64>,
) -> Result<BTreeMap<u64, u64>, Failed> {
    for (keys, count) in oracle.counted("kvm/kvm_exit", &["common_pid", "exit_reason"])? {
        let faults = [
            exit_reasons::reason_code("npf")?,
            exit_reasons::reason_code("EPT_VIOLATION")?,
        ]
        .contains(&keys[1]);
        if keys[0] == u64::from(tid)
            && faults
            && let Some(made) = made.get_mut(&keys[1])
        {
            ensure((*made..=*made + 5).contains(&count), || {
                format!("{count} page faults, of which the guest made {made}")
            })?;
            *made = count;
        }
    }
    Ok(made)
}

fn full_table() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", KINDS, "-n", "500"])?;
    let mut oracle = Instance::new()?;
    oracle.count("kvm/kvm_exit", "common_pid")?;
    let watch = RunningCollector::start(&["exits", "--json", "-p", &guest.pid, "--max-rows", "2"])?;
    let tids = guest.tids.clone();
    guest.run()?;
    let report = watch.end()?.expect_code(0)?.report()?;
    let loss = &report["loss"];
    let map_full = number(loss, "map_full")?;
    ensure(map_full > 0, || format!("the table never filled: {report}"))?;
    equal("unmatched", number(loss, "unmatched")?, 0)?;
    equal(
        "in rows and not",
        number(&report, "count")? + map_full,
        oracle.counted_in("kvm/kvm_exit", &tids)?,
    )
}

fn full_table_is_logged() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "cpuid,msr", "-n", "50"])?;
    let watch = RunningCollector::start(&[
        "-vv",
        "exits",
        "--json",
        "-p",
        &guest.pid,
        "--max-rows",
        "1",
    ])?;
    guest.run()?;
    watch
        .end()?
        .expect_code(0)?
        .expect_message(&["no row for subcode"])?;
    Ok(())
}

fn report_of(what: &str, watch: RunningCollector) -> Result<Value, Failed> {
    let report = watch
        .end()?
        .expect_code(0)
        .and_then(|it: FinishedProcess| it.report())?;
    nothing_lost(&report).map_err(|failed| {
        Failed::from(format!("{what}: {}", failed.message().unwrap_or_default()))
    })?;
    Ok(report)
}

/// Counts of an `exits` report per reason's code.
pub(crate) fn by_code(report: &Value) -> Result<BTreeMap<u64, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in list(report, "rows")? {
        *counts.entry(number(row, "reason_code")?).or_default() += number(row, "count")?;
    }
    Ok(counts)
}

type Row = (String, String, Option<u64>, u64);

/// Counts of an `exits` report per pid, VM's name, vCPU and reason's code, without what the host caused.
fn rows(report: &Value) -> Result<BTreeMap<Row, u64>, Failed> {
    let mut counts = BTreeMap::new();
    for row in list(report, "rows")? {
        let code = number(row, "reason_code")?;
        let name = row["vm"].as_str().ok_or("no vm")?.to_owned();
        if !exit_reasons::is_caused_by_host(code) {
            let key = (row["pid"].to_string(), name, row["vcpu"].as_u64(), code);
            counts.insert(key, number(row, "count")?);
        }
    }
    Ok(counts)
}
