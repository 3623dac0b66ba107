//! A ring that overflows: for each event, the delivered and the lost events are together all events.

use std::{collections::BTreeMap, thread, time::Duration};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use crate::{
    check::{ensure, ensure_equal, get_number},
    ftrace_instance::FtraceInstance,
    guest::Guest,
    process::FinishedProcess,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// Events of each exit of the guest. Without hardware virtualization, not all of them occur.
const EVENTS: [&str; 5] = [
    "kvm_userspace_exit",
    "kvm_pio",
    "kvm_mmio",
    "kvm_entry",
    "kvm_exit",
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("delivered_and_lost_are_all_events", REQUIREMENTS, || {
            delivered_and_lost(Reader::Running)
        }),
        test(
            "delivered_and_lost_are_all_events_of_a_stopped_reader",
            REQUIREMENTS,
            || delivered_and_lost(Reader::Stopped),
        ),
        test(
            "lost_events_are_exit_code_3_when_strict",
            REQUIREMENTS,
            strict,
        ),
    ]
}

/// Whether the collector runs while the guest runs. A stopped collector certainly loses events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Running,
    Stopped,
}

fn delivered_and_lost(reader: Reader) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,mmio", "-n", "1000", "--vcpus", "2"])?;
    let mut ftrace = FtraceInstance::new()?;
    let recorded = EVENTS.map(|event| format!("kvm/{event}"));
    let recorded: Vec<_> = recorded.iter().map(String::as_str).collect();
    ftrace.start_recording(&recorded, &guest.tids, 16 << 10)?;
    let (pid, events) = (guest.pid.clone(), EVENTS.join(","));
    let collector =
        RunningCollector::start(&["trace", "--json", "--ring", "4K", "-e", &events, "-p", &pid])?;
    let userspace_exits = run_with(guest, &collector, reader)?;
    let (delivered, lost) = count_delivered_and_lost(&collector.end()?.expect_code(0)?)?;
    let produced = ftrace.count_recorded_events()?;

    let mut sums = delivered.clone();
    for (event, count) in &lost {
        *sums.entry(event.clone()).or_default() += count;
    }
    ensure_equal(
        "delivered and lost events, compared with ftrace",
        sums.clone(),
        produced,
    )?;
    ensure_equal(
        "kvm_userspace_exit, compared with the guest",
        sums.get("kvm_userspace_exit").copied(),
        Some(userspace_exits),
    )?;
    ensure(sums.len() >= 3, || format!("too few events: {sums:?}"))?;
    ensure(!delivered.is_empty() && !lost.is_empty(), || {
        format!("nothing was tested: delivered {delivered:?}, lost {lost:?}")
    })
}

fn strict() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let args = ["trace", "--json", "--strict", "-e", "kvm_userspace_exit"];
    let pid = guest.pid.clone();
    let small = RunningCollector::start(&[&args[..], &["--ring", "4K", "-p", &pid]].concat())?;
    run_with(guest, &small, Reader::Stopped)?;
    small.end()?.expect_code(3)?;

    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let pid = guest.pid.clone();
    let large = RunningCollector::start(&[&args[..], &["--ring", "8M", "-p", &pid]].concat())?;
    run_with(guest, &large, Reader::Stopped)?;
    large.end()?.expect_code(0)?;
    Ok(())
}

/// Runs the guest, and returns the number of its exits to user space.
fn run_with(guest: Guest, collector: &RunningCollector, reader: Reader) -> Result<u64, Failed> {
    if reader == Reader::Stopped {
        collector.signal(Signal::STOP)?;
        // A process stops when it next returns to user space.
        thread::sleep(Duration::from_millis(50));
    }
    let report = guest.run();
    collector.signal(Signal::CONT)?;
    report?.userspace_exits()
}

/// Numbers of events by event name.
pub(crate) type EventCounts = BTreeMap<String, u64>;

/// Returns the numbers of delivered and of lost events, by event name, from the output of `trace --json`.
pub(crate) fn count_delivered_and_lost(
    collector: &FinishedProcess,
) -> Result<(EventCounts, EventCounts), Failed> {
    let (mut delivered, mut lost) = (EventCounts::new(), EventCounts::new());
    for line in collector.json()? {
        let event = line["event"].as_str().ok_or("no event")?;
        let event = event.strip_prefix("kvm:").ok_or("no system")?;
        if line["lost"].is_null() {
            *delivered.entry(event.to_owned()).or_default() += 1;
        } else {
            *lost.entry(event.to_owned()).or_default() += get_number(&line, "lost")?;
        }
    }
    Ok((delivered, lost))
}
