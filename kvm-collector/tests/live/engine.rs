//! One engine for running and recorded events: the same guests, selected in the same way, give the same numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    process, thread,
    time::Duration,
};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    check::{LOSSES, ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    counts::event_count,
    exit_reasons,
    exit_time_parts::BusyThread,
    exits::{REQUIREMENTS, counts_by_code},
    guest::Guest,
    probe::{Vm, run_in_new_threads, run_in_turns},
    process::{FinishedProcess, run_collector},
    requirements::test,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// Events of the recordings. With the end of threads, a recording knows as much as the eBPF programs.
const RECORDED: &str = "kvm:*,sched:sched_switch,sched:sched_process_exit";

/// Events that `stat` counts.
const COUNTED: &str = "kvm:*,sched:sched_switch";

const SWITCH: &str = "sched:sched_switch";

/// How much the times of long exits may differ between two tools. Each reads the clock itself.
const TOLERANCE_PERCENT: u64 = 5;

/// How much longer one tool may find an exit than another: an emulated CPU may stand still between their two readings
/// of the clock.
const MARGIN_NS: u64 = 5_000_000;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("live_equals_recorded_in_stat", REQUIREMENTS, || {
            live_equals_recorded("stat")
        }),
        test("live_equals_recorded_in_exits", REQUIREMENTS, || {
            live_equals_recorded("exits")
        }),
        test(
            "live_preempted_time_equals_recorded",
            REQUIREMENTS,
            preempted,
        ),
        test("intervals_and_total_add_up", REQUIREMENTS, intervals),
        test("a_vm_that_starts_later_is_selected", REQUIREMENTS, late_vm),
        test("no_wait_makes_an_absent_vm_an_error", REQUIREMENTS, no_wait),
        test(
            "no_exit_reaches_across_lost_events",
            REQUIREMENTS,
            small_ring,
        ),
        test("a_vcpu_run_by_two_threads_in_turn", REQUIREMENTS, || {
            moving_vcpu(|vm| run_in_turns(vm.vcpu(0)?, 200))
        }),
        test("a_vcpu_run_by_new_threads", REQUIREMENTS, || {
            moving_vcpu(|vm| run_in_new_threads(vm.vcpu(0)?, 20, 10))
        }),
    ]
}

/// Two VMs, of which one starts after the collectors, counted by one collector per selector and recorded by another.
fn live_equals_recorded(command: &str) -> Result<(), Failed> {
    let folder = TempDir::new("engine")?;
    let file = folder.file("kvm.data");
    let load = ["-k", "io,cpuid,mmio,msr,hlt", "--vcpus", "2"];
    let mut early = Guest::prepare(
        &[
            &load[..],
            &["-n", "60", "--sleep", "5ms", "--name", "early"],
        ]
        .concat(),
    )?;
    let tid = early.tids[1].to_string();
    let pid = early.pid.clone();
    let selectors: [&[&str]; 6] = [
        &[],
        &["-p", &pid],
        &["--vm", "late"],
        &["--vcpu", "1"],
        &["-p", &pid, "--vcpu", "1"],
        &["--tid", &tid],
    ];
    let options: &[&str] = match command {
        "stat" => &["stat", "--json", "--per-vm", "-e", COUNTED],
        _ => &["exits", "--json", "--by", "vm,vcpu,reason"],
    };
    let record = ["record", "--strict", "-e", RECORDED, "-o", &file];
    let record = RunningCollector::start(&[&record[..], &["--ring", "16M"]].concat())?;
    let mut live = Vec::new();
    for selector in selectors {
        live.push(RunningCollector::start(&[options, selector].concat())?);
    }
    let mut late =
        Guest::prepare(&[&load[..], &["-n", "80", "--sleep", "4ms", "--name", "late"]].concat())?;
    let late_pid = late.pid.clone();
    early.start()?;
    late.start()?;
    early.finish()?;
    late.finish()?;
    record.end()?.expect_code(0)?;
    for (selector, live) in selectors.into_iter().zip(live) {
        let live = live.end()?.expect_code(0)?.report()?;
        let from_file = [options, selector, &["-i", &file]].concat();
        let recorded = run_collector(&from_file)?.expect_code(0)?.report()?;
        let pids: &[&str] = match selector {
            [] | ["--vcpu", _] => &[&pid, &late_pid],
            ["--vm", _] => &[&late_pid],
            _ => &[&pid],
        };
        let compare = match command {
            "stat" => same_counts,
            _ => same_exits,
        };
        compare(&live, &recorded, pids, selector.is_empty())
            .and_then(|()| same_losses(&live, &recorded, selector[..].starts_with(&["--vcpu"])))
            .map_err(|it| format!("{selector:?}: {}", it.message().unwrap_or_default()))?;
    }
    Ok(())
}

/// What the kernel did not run a program for, nobody can see in a recording. Where vCPUs of all processes are selected,
/// others have events of no vCPU also before the guests begin and after they have ended.
fn same_losses(live: &Value, recorded: &Value, of_all_processes: bool) -> Result<(), Failed> {
    let compared = |kind: &&str| match *kind {
        "missed" => false,
        "unattributed" => !of_all_processes,
        _ => true,
    };
    for kind in LOSSES.into_iter().filter(compared) {
        ensure_equal(
            kind,
            get_number(&recorded["loss"], kind)?,
            get_number(&live["loss"], kind)?,
        )?;
    }
    Ok(())
}

/// Two reports of `stat` have the same count of each event, in all and of each VM.
fn same_counts(
    live: &Value,
    recorded: &Value,
    pids: &[&str],
    selects_nothing: bool,
) -> Result<(), Failed> {
    let counts = |report: &Value| {
        let mut all = BTreeMap::new();
        for event in get_list(report, "events")? {
            all.insert(event["event"].to_string(), get_number(event, "count")?);
        }
        let mut counts = BTreeMap::new();
        let mut of_vms = BTreeSet::new();
        for vm in get_list(report, "vms")? {
            let pid = vm["pid"].to_string();
            for event in get_list(vm, "events")? {
                let (name, count) = (event["event"].to_string(), get_number(event, "count")?);
                if pids.contains(&pid.as_str()) {
                    counts.insert(format!("{} {pid} {name}", vm["vm"]), count);
                } else if let Some(sum) = all.get_mut(&name) {
                    *sum = sum.checked_sub(count).ok_or("a VM has more than all")?;
                }
            }
            of_vms.insert(pid);
        }
        if selects_nothing {
            // Also before the guests begin and after they have ended, others do things, and threads are switched.
            all.remove(&Value::from(SWITCH).to_string());
            of_vms.retain(|pid| pids.contains(&pid.as_str()));
        }
        counts.extend(all.into_iter().filter(|it| it.1 > 0));
        let expected = pids.iter().map(|it| (*it).to_owned()).collect();
        ensure_equal("processes", of_vms, expected)?;
        Ok::<_, Failed>(counts)
    };
    let (live, recorded) = (counts(live)?, counts(recorded)?);
    ensure(live.len() > 10, || {
        format!("too few events for a test: {live:?}")
    })?;
    for (key, count) in live.iter().chain(&recorded) {
        let counts = (live.get(key), recorded.get(key));
        ensure(counts == (Some(count), Some(count)), || {
            format!("{key:?}: live and recorded {counts:?}")
        })?;
    }
    Ok(())
}

/// Two reports of `exits` have the same exits of each VM, vCPU and reason.
fn same_exits(live: &Value, recorded: &Value, pids: &[&str], _: bool) -> Result<(), Failed> {
    let rows = |report: &Value| {
        let rows = get_list(report, "rows")?.iter();
        let rows: BTreeMap<_, _> = rows.map(|row| (key(row), row.clone())).collect();
        let of: BTreeSet<_> = rows.values().map(|row| row["pid"].to_string()).collect();
        let expected: BTreeSet<_> = pids.iter().map(|it| (*it).to_owned()).collect();
        ensure_equal("processes", of, expected)?;
        Ok::<_, Failed>(rows)
    };
    let (live, recorded) = (rows(live)?, rows(recorded)?);
    let keys = |rows: &BTreeMap<String, Value>| rows.keys().cloned().collect::<Vec<_>>();
    ensure_equal("rows", keys(&recorded), keys(&live))?;
    let mut long = 0;
    for (row, live) in recorded.values().zip(live.values()) {
        for field in ["count", "open", "untimed"] {
            let name = format!("{field} of {}", key(row));
            ensure_equal(&name, get_number(row, field)?, get_number(live, field)?)?;
        }
        // Of an exit that takes some ms, the other tools' work at either end is little.
        if get_number(live, "vmm_ns")? * 2 > get_number(live, "time_ns")? {
            for field in ["time_ns", "vmm_ns"] {
                close(&format!("{field} of {}", key(row)), row, live, field)?;
            }
            long += 1;
        }
    }
    ensure(long > 0, || "no long exits: this tests too little".into())
}

fn key(row: &Value) -> String {
    let key = ["vm", "pid", "vcpu", "reason"].map(|it| row[it].to_string());
    key.join(" ")
}

fn close(what: &str, recorded: &Value, live: &Value, field: &str) -> Result<(), Failed> {
    let (recorded, live) = (get_number(recorded, field)?, get_number(live, field)?);
    ensure(
        recorded.abs_diff(live) * 100 <= live * TOLERANCE_PERCENT,
        || format!("{what}: recorded {recorded}, live {live}"),
    )
}

/// A guest competes with a busy thread for its CPU.
fn preempted() -> Result<(), Failed> {
    let folder = TempDir::new("engine-preempted")?;
    let file = folder.file("kvm.data");
    let busy = BusyThread::start(1)?;
    let guest = Guest::prepare(&["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"])?;
    let pid = guest.pid.clone();
    let options = ["exits", "--preempt", "--json", "--by", "vm,vcpu,reason"];
    let selectors = [["-p", &pid], ["--vcpu", "0"]];
    let record = RunningCollector::start(&["record", "--strict", "-e", RECORDED, "-o", &file])?;
    let mut live = Vec::new();
    for selector in selectors {
        live.push(RunningCollector::start(
            &[&options[..], &selector].concat(),
        )?);
    }
    guest.run()?;
    drop(busy);
    record.end()?.expect_code(0)?;
    for (selector, live) in selectors.into_iter().zip(live) {
        let live = live.end()?.expect_code(0)?.report()?;
        let from_file = [&options[..], &selector, &["-i", &file]].concat();
        let recorded = run_collector(&from_file)?.expect_code(0)?.report()?;
        let what = format!("{selector:?}");
        let rows = |report: &Value| {
            let rows = get_list(report, "rows")?.iter();
            let rows = rows.map(|row| {
                Ok((
                    key(row),
                    (get_number(row, "count")?, get_number(row, "open")?),
                ))
            });
            rows.collect::<Result<BTreeMap<_, _>, Failed>>()
        };
        ensure_equal(&what, rows(&recorded)?, rows(&live)?)?;
        same_losses(&live, &recorded, false)?;
        let [of_live, of_recorded] = [&live, &recorded].map(|report| get_list(report, "vcpus"));
        let ([of_live], [of_recorded]) = (of_live?, of_recorded?) else {
            return Err(format!("{what}: not one vCPU: {live} {recorded}").into());
        };
        ensure(get_number(of_live, "preempted_ns")? > 100_000_000, || {
            format!("{what}: it was hardly preempted: {of_live}")
        })?;
        for field in ["preempted_ns", "guest_ns"] {
            close(&format!("{what}: {field}"), of_recorded, of_live, field)?;
        }
    }
    Ok(())
}

/// Numbers of a row that add up.
const SUMS: [&str; 7] = [
    "count",
    "untimed",
    "time_ns",
    "kernel_ns",
    "vmm_ns",
    "halted_ns",
    "preempted_ns",
];

fn intervals() -> Result<(), Failed> {
    let folder = TempDir::new("engine-intervals")?;
    let file = folder.file("kvm.data");
    let mut guest = Guest::prepare(&["-k", "io,cpuid,mmio", "-n", "100000", "--vcpus", "2"])?;
    let pid = guest.pid.clone();
    guest.start()?;
    let record = ["record", "-p", &pid, "-d", "1s", "-o", &file];
    run_collector(
        &[
            &record[..],
            &["-e", "kvm_exit,kvm_entry,kvm_userspace_exit"],
        ]
        .concat(),
    )?
    .expect_code(0)?;
    let source = ["-i", &file];
    for source in [&["-d", "1s"][..], &source] {
        for command in ["exits", "stat"] {
            let args = [command, "--json", "-I", "300ms", "-p", &pid];
            let ended = run_collector(&[&args[..], source].concat())?.expect_code(0)?;
            add_up(command, &ended)
                .map_err(|it| format!("{command} {source:?}: {}", it.message().unwrap_or("")))?;
        }
    }
    Ok(())
}

/// Three whole intervals and the rest are the total.
fn add_up(command: &str, ended: &FinishedProcess) -> Result<(), Failed> {
    let mut intervals = ended.json()?;
    let total = intervals.pop().ok_or("no total")?;
    let lengths = intervals.iter().map(|it| get_number(it, "elapsed_ns"));
    let lengths: Vec<_> = lengths.collect::<Result<_, _>>()?;
    ensure(
        lengths.len() == 4 && lengths[3] < 300_000_000 && lengths[3] < lengths[0],
        || format!("not three whole intervals and a part of one: {lengths:?}"),
    )?;
    let elapsed = get_number(&total, "elapsed_ns")?;
    ensure_equal("elapsed", lengths.iter().sum::<u64>(), elapsed)?;
    let sums = |reports: &[Value]| {
        let mut sums: BTreeMap<(String, &str), u64> = BTreeMap::new();
        for report in reports {
            for kind in LOSSES {
                let count = report["loss"][kind].as_u64().unwrap_or(0);
                *sums.entry(("loss".into(), kind)).or_default() += count;
            }
            if command == "stat" {
                for event in get_list(report, "events")? {
                    let key = (event["event"].to_string(), "count");
                    *sums.entry(key).or_default() += get_number(event, "count")?;
                }
                continue;
            }
            for row in get_list(report, "rows")? {
                for field in SUMS {
                    let key = (row["reason"].to_string(), field);
                    *sums.entry(key).or_default() += get_number(row, field)?;
                }
            }
            for vcpu in get_list(report, "vcpus")? {
                let key = (format!("vCPU {}", vcpu["vcpu"]), "guest_ns");
                *sums.entry(key).or_default() += get_number(vcpu, "guest_ns")?;
            }
        }
        Ok::<_, Failed>(sums)
    };
    let (of_intervals, of_total) = (sums(&intervals)?, sums(&[total])?);
    for (key, sum) in &of_total {
        let got = of_intervals.get(key).copied().unwrap_or(0);
        ensure_equal(&format!("{key:?} of all intervals"), got, *sum)?;
    }
    ensure_equal("rows", of_intervals.len(), of_total.len())?;
    let all: u64 = of_total.values().sum();
    ensure(all > 1000, || format!("too few events: {of_total:?}"))
}

/// Another VM runs all the time.
fn late_vm() -> Result<(), Failed> {
    let folder = TempDir::new("engine-late")?;
    let file = folder.file("kvm.data");
    let mut other = Guest::prepare(&["-k", "io", "-n", "1000000", "--name", "other"])?;
    other.start()?;
    let event = ["-e", "kvm_userspace_exit"];
    let begin = |args: &[&str]| RunningCollector::start(&[args, &["--vm", "late-*"]].concat());
    let stat = begin(&[&["stat", "--json", "--per-vm"], &event[..]].concat())?;
    let exits = begin(&["exits", "--json", "--by", "vm,reason"])?;
    let trace = begin(&[&["trace", "--json", "--strict"], &event[..]].concat())?;
    let record = begin(&["record", "--strict", "-o", &file])?;
    let load = ["-k", "io,cpuid,mmio,msr", "-n", "200", "--sleep", "2ms"];
    let late = Guest::prepare(&[&load[..], &["--name", "late-1"]].concat())?;
    let pid = late.pid.clone();
    let made = late.run()?;
    let (userspace_exits, of_reasons) = (made.userspace_exits()?, made.exits()?);
    // The collectors look for ended processes a few times a second.
    thread::sleep(Duration::from_millis(700));
    let [stat, exits, trace, record] =
        [stat, exits, trace, record].map(|it| it.end()?.expect_code(0)?.expect_message(&["yet"]));
    drop(other);

    let stat = stat?.report()?;
    let recorded = ["-i", &file];
    let stat_recorded = run_collector(&[&["stat", "--json", "--per-vm"], &recorded[..]].concat())?;
    let stat_recorded = stat_recorded.expect_code(0)?.report()?;
    for (what, report) in [("stat", &stat), ("stat of the recording", &stat_recorded)] {
        ensure_nothing_lost(report)?;
        let [vm] = get_list(report, "vms")? else {
            return Err(format!("{what}: not one VM: {report}").into());
        };
        ensure_equal(what, vm["pid"].to_string(), pid.clone())?;
        for of in [report, vm] {
            let count = event_count(of, "kvm:kvm_userspace_exit")?;
            ensure_equal(what, count, userspace_exits)?;
        }
    }
    let exits = exits?.report()?;
    let exits_recorded = ["exits", "--json", "--by", "vm,reason"];
    let exits_recorded = run_collector(&[&exits_recorded, &recorded[..]].concat())?;
    let exits_recorded = exits_recorded.expect_code(0)?.report()?;
    for (what, report) in [
        ("exits", &exits),
        ("exits of the recording", &exits_recorded),
    ] {
        ensure_nothing_lost(report)?;
        for row in get_list(report, "rows")? {
            ensure_equal(what, row["pid"].to_string(), pid.clone())?;
            ensure_equal(what, &row["vm"], &Value::from("late-1"))?;
        }
        let counted = exit_reasons::without_host_exits(counts_by_code(report)?);
        ensure_equal(what, counted, of_reasons.clone())?;
    }
    let lines = trace?.json()?;
    ensure_equal("lines of trace", lines.len() as u64, userspace_exits)?;
    let pid: u64 = pid.parse()?;
    ensure(lines.iter().all(|it| it["pid"] == pid), || {
        "trace shows another VM".into()
    })?;
    ensure(record?.stderr.contains(", 0 lost"), || {
        "events were lost".into()
    })
}

fn no_wait() -> Result<(), Failed> {
    let guest = Guest::prepare(&["--name", "there"])?;
    for command in ["stat", "exits", "trace", "record"] {
        let args = [command, "--no-wait", "--vm", "late-*", "-d", "100ms"];
        let ended = run_collector(&args)?.expect_code(1)?;
        ensure_equal("stdout", ended.stdout.as_str(), "")?;
        let words = ["no VM is named `late-*`", "there", &guest.pid];
        ended.expect_message(&words)?;
        let there = [command, "--no-wait", "--vm", "there", "-d", "100ms"];
        run_collector(&[&there[..], &["-o", "/dev/null"]].concat())?.expect_code(0)?;
    }
    Ok(())
}

/// Two collectors with small rings are stopped while the guest goes on: an exit before that and an entry after it are
/// no pair. The guest stays on one CPU: if it moved to a CPU that loses events and back, a replay could not know.
fn small_ring() -> Result<(), Failed> {
    const STOPPED: Duration = Duration::from_millis(400);
    let folder = TempDir::new("engine-ring")?;
    let file = folder.file("kvm.data");
    let mut guest = Guest::prepare(&["-k", "io,cpuid", "-n", "8000", "--cpu", "1"])?;
    let pid = guest.pid.clone();
    let exits = RunningCollector::start(&["exits", "--json", "-p", &pid])?;
    // Two events an exit, so that the ring suffices but for the time in which its reader is stopped: what is near a loss
    // has no time, and of other exits there have to be some.
    let small = ["--ring", "64K", "-p", &pid, "-e", "kvm_exit,kvm_entry"];
    let trace =
        RunningCollector::start(&[&["trace", "--per-exit", "--json"], &small[..]].concat())?;
    let record = RunningCollector::start(&[&["record", "-o", &file], &small[..]].concat())?;
    guest.start()?;
    thread::sleep(Duration::from_millis(50));
    for signal in [Signal::STOP, Signal::CONT] {
        trace.signal(signal)?;
        record.signal(signal)?;
        if signal == Signal::STOP {
            thread::sleep(STOPPED);
        }
    }
    guest.finish()?;
    let exits = exits.end()?.expect_code(0)?.report()?;
    let trace = trace.end()?.expect_code(0)?;
    record.end()?.expect_code(0)?;
    ensure_nothing_lost(&exits)?;
    let longest_ns = longest(&exits)?;
    ensure(longest_ns < 200_000_000, || {
        format!("an exit of {longest_ns} ns: this tests nothing")
    })?;

    let mut printed = 0;
    for line in trace.json()? {
        if let Some(duration_ns) = line["duration_ns"].as_u64() {
            printed += 1;
            ensure(duration_ns <= longest_ns + MARGIN_NS, || {
                format!("the longest exit took {longest_ns} ns: {line}")
            })?;
        }
    }
    ensure(printed > 0, || format!("no exits: {}", trace.stderr))?;
    ensure(!trace.stderr.contains(" 0 events lost"), || {
        format!("nothing was lost: {}", trace.stderr)
    })?;
    trace.expect_message(&["events lost", "exits have no entry after them", "no time"])?;

    let args = ["exits", "--json", "--strict", "-i", &file];
    let recorded = run_collector(&args)?.expect_code(3)?.report()?;
    for kind in ["lost", "unmatched"] {
        ensure(get_number(&recorded["loss"], kind)? > 0, || {
            format!("{kind}: {recorded}")
        })?;
    }
    let recorded_ns = longest(&recorded)?;
    ensure(
        recorded_ns > 0 && recorded_ns <= longest_ns + MARGIN_NS,
        || format!("the longest exit took {longest_ns} ns, and {recorded_ns} in the recording"),
    )
}

fn longest(report: &Value) -> Result<u64, Failed> {
    let rows = get_list(report, "rows")?.iter();
    let longest = rows.map(|row| get_number(row, "max_ns"));
    let longest: Vec<_> = longest.collect::<Result<_, _>>()?;
    longest.into_iter().max().ok_or_else(|| "no rows".into())
}

/// Several threads of this process run one vCPU, one after the other.
fn moving_vcpu(run_vcpu: fn(&Vm) -> crate::probe::Result<()>) -> Result<(), Failed> {
    let folder = TempDir::new("engine-moves")?;
    let file = folder.file("kvm.data");
    let pid = process::id().to_string();
    let record = RunningCollector::start(&["record", "--strict", "-p", &pid, "-o", &file])?;
    let options = ["exits", "--json", "--by", "vcpu", "-p", &pid];
    let live = RunningCollector::start(&options)?;
    let vm = Vm::new().map_err(|error| error.to_string())?;
    run_vcpu(&vm).map_err(|error| error.to_string())?;
    let live = live.end()?.expect_code(0)?.report()?;
    record.end()?.expect_code(0)?;
    let recorded = run_collector(&[&options[..], &["-i", &file]].concat())?.expect_code(0)?;
    let recorded = recorded.report()?;
    let [of_live, of_recorded] = [&live, &recorded].map(one_vcpu);
    ensure_equal("count, open, untimed", of_recorded?, of_live?)?;
    same_losses(&live, &recorded, false)
}

/// A report is of one vCPU that moved, with a share of at most 100 %. Returns how many exits it had, how many were open
/// and how many have no time.
fn one_vcpu(report: &Value) -> Result<[u64; 3], Failed> {
    let elapsed_ns = get_number(report, "elapsed_ns")?;
    let ([row], [vcpu]) = (get_list(report, "rows")?, get_list(report, "vcpus")?) else {
        return Err(format!("not one vCPU: {report}").into());
    };
    let mut sum_ns = 0;
    for field in [
        "guest_ns",
        "kernel_ns",
        "vmm_ns",
        "halted_ns",
        "preempted_ns",
        "open_ns",
    ] {
        sum_ns += get_number(vcpu, field)?;
    }
    ensure(sum_ns <= elapsed_ns && sum_ns > 0, || {
        format!("{sum_ns} of {elapsed_ns} ns: {report}")
    })?;
    let open = get_number(row, "open")?;
    ensure(open <= 1, || format!("{open} exits in progress: {report}"))?;
    let moved = get_number(&report["loss"], "moved")?;
    ensure(moved > 0, || format!("nothing moved: {report}"))?;
    let untimed = get_number(row, "untimed")?;
    ensure_equal("exits without a time", untimed, moved)?;
    Ok([get_number(row, "count")?, open, untimed])
}
