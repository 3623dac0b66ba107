//! A ring buffer too small for what happens: what was delivered and what was lost are together what was produced, per event.

use std::{collections::BTreeMap, thread, time::Duration};

use libtest_mimic::{Failed, Trial};
use rustix::process::Signal;

use crate::{
    check::{ensure, equal, number},
    ftrace::Instance,
    guest::Guest,
    process::FinishedProcess,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

/// What each exit of the guest makes several of. Where KVM virtualizes in software, not all of them happen.
const EVENTS: [&str; 5] = [
    "kvm_userspace_exit",
    "kvm_pio",
    "kvm_mmio",
    "kvm_entry",
    "kvm_exit",
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("delivered_and_lost_is_produced", REQUIREMENTS, || {
            delivered_and_lost(Reader::Awake)
        }),
        test(
            "delivered_and_lost_is_produced_asleep",
            REQUIREMENTS,
            || delivered_and_lost(Reader::Asleep),
        ),
        test(
            "lost_events_are_exit_code_3_when_strict",
            REQUIREMENTS,
            strict,
        ),
    ]
}

/// Does the collector get to read while the guest runs? Asleep, loss is certain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Awake,
    Asleep,
}

fn delivered_and_lost(reader: Reader) -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io,mmio", "-n", "1000", "--vcpus", "2"])?;
    let mut oracle = Instance::new()?;
    let recorded = EVENTS.map(|event| format!("kvm/{event}"));
    let recorded: Vec<_> = recorded.iter().map(String::as_str).collect();
    oracle.record(&recorded, &guest.tids, 16 << 10)?;
    let (pid, events) = (guest.pid.clone(), EVENTS.join(","));
    let watch =
        RunningCollector::start(&["trace", "--json", "--ring", "4K", "-e", &events, "-p", &pid])?;
    let made = run_with(guest, &watch, reader)?;
    let (delivered, lost) = delivered_and_lost_counts(&watch.end()?.expect_code(0)?)?;
    let produced = oracle.recorded()?;

    let mut sums = delivered.clone();
    for (event, count) in &lost {
        *sums.entry(event.clone()).or_default() += count;
    }
    equal(
        "delivered and lost, by ftrace's count",
        sums.clone(),
        produced,
    )?;
    // And by the guest's own.
    equal(
        "kvm_userspace_exit",
        sums.get("kvm_userspace_exit").copied(),
        Some(made),
    )?;
    ensure(sums.len() >= 3, || format!("too few kinds: {sums:?}"))?;
    ensure(!delivered.is_empty() && !lost.is_empty(), || {
        format!("this tests nothing: delivered {delivered:?}, lost {lost:?}")
    })
}

fn strict() -> Result<(), Failed> {
    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let args = ["trace", "--json", "--strict", "-e", "kvm_userspace_exit"];
    let pid = guest.pid.clone();
    let small = RunningCollector::start(&[&args[..], &["--ring", "4K", "-p", &pid]].concat())?;
    run_with(guest, &small, Reader::Asleep)?;
    small.end()?.expect_code(3)?;

    let guest = Guest::prepare(&["-k", "io", "-n", "2000"])?;
    let pid = guest.pid.clone();
    let large = RunningCollector::start(&[&args[..], &["--ring", "8M", "-p", &pid]].concat())?;
    run_with(guest, &large, Reader::Asleep)?;
    large.end()?.expect_code(0)?;
    Ok(())
}

/// Returns to user space that the guest made.
fn run_with(guest: Guest, watch: &RunningCollector, reader: Reader) -> Result<u64, Failed> {
    if reader == Reader::Asleep {
        watch.signal(Signal::STOP)?;
        // A process stops at its next step to user space.
        thread::sleep(Duration::from_millis(50));
    }
    let made = guest.run();
    watch.signal(Signal::CONT)?;
    made?.userspace_exits()
}

pub(crate) type Counts = BTreeMap<String, u64>;

pub(crate) fn delivered_and_lost_counts(
    ended: &FinishedProcess,
) -> Result<(Counts, Counts), Failed> {
    let (mut delivered, mut lost) = (Counts::new(), Counts::new());
    for line in ended.json()? {
        let event = line["event"].as_str().ok_or("no event")?;
        if line["lost"].is_null() {
            *delivered.entry(event.to_owned()).or_default() += 1;
        } else {
            let event = event.strip_prefix("kvm:").ok_or("no system")?;
            *lost.entry(event.to_owned()).or_default() += number(&line, "lost")?;
        }
    }
    Ok((delivered, lost))
}
