//! The kernel's own words: what `trace` prints of an event is, byte for byte, what ftrace prints of it, event by event.
//!
//! ftrace records the same events in the same run. What counts are the threads of the guests, from their beginning to their
//! end, both of which lie within both recordings: so each line on either side has its line on the other.
//!
//! One thing cannot be the same: of `%p` the kernel prints a hash with a secret key, and `trace` the pointer itself. There, the
//! same pointer has to have the same hash throughout, and all around them has to be the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, process,
};

use kvm_collector::guest::Isa;
use libtest_mimic::{Failed, Trial};

use crate::{
    ftrace_recording::{FtraceRecording, events_with_hashes},
    line::Line,
    requirements::{Requirement, collector_command, test},
};

/// What runs, one after the other. `hypercall` comes on top where there is one.
const GUESTS: [&str; 9] = [
    "--mode long -n 30 -k io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd",
    "--mode real -n 30 -k io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd",
    "--mode long -n 30 --vms 2 --vcpus 2 -k page-fault,cpuid,io",
    "--mode real -n 30 --vcpus 2 -k page-fault,cpuid,hlt",
    "--mode long -n 20 -k mmio,hlt --sleep 1ms",
    "--mode long -n 0",
    "--mode long -n 20 -k exception,cr,pvclock,dirty,apic,apic-read,ipi,timer,pit,irq,ioapic,msi",
    "--mode real -n 20 -k exception,cr,pvclock,dirty,apic,apic-read,ipi,timer,pit,irq,ioapic,msi",
    "--mode long -n 20 --vcpus 2 -k ipi,timer,irq,ioapic,msi,dirty,page-fault",
];
const WITH_HYPERCALL: &str = "-n 30 -k hypercall";

/// Fewer different events than these mean that the guests did not do what they are for.
const LEAST_EVENTS: usize = 25;

/// How far ahead of its turn a line of ftrace's may be.
///
/// An interrupt may make events between the two recorders' turns at the event that it interrupts: each recorder then has
/// its own order, and neither is wrong.
const AHEAD: usize = 8;

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "words_are_the_kernels",
        &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs],
        words_are_the_kernels,
    )]
}

fn words_are_the_kernels() -> Result<(), Failed> {
    let recording = FtraceRecording::start()?;
    let (ours, guests) = trace()?;
    let (theirs, lost) = recording.stop()?;
    if lost > 0 {
        return Err(format!("ftrace lost {lost} events: nothing can be said").into());
    }
    let threads = threads(&guests)?;
    let hashes = events_with_hashes()?;
    let ours = by_thread(&ours, &threads, &hashes)?;
    let theirs = by_thread(&theirs, &threads, &hashes)?;

    let mut tally = EventCounter::default();
    for tid in threads {
        let of = |lines: &BTreeMap<u32, Vec<Line>>| lines.get(&tid).cloned().unwrap_or_default();
        tally.compare(of(&ours), of(&theirs));
    }
    tally.print();
    tally.verdict()
}

/// Runs the guests under `trace`: what it wrote, and what the guests reported.
fn trace() -> Result<(String, String), Failed> {
    let file = std::env::temp_dir().join(format!("kvm-collector-words-{}", process::id()));
    let output = collector_command()
        // A loss ends with an exit code of its own.
        .args(["trace", "-e", "*", "--strict", "--ring", "64M", "-o"])
        .arg(&file)
        .args(["--", "sh", "-ec", &script()])
        .output()?;
    let text = fs::read_to_string(&file);
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        return Err(format!("trace: {output:?}").into());
    }
    Ok((text?, String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn script() -> String {
    let program = collector_command();
    let program = program.get_program().to_string_lossy();
    GUESTS
        .iter()
        .chain(Isa::detect().is_some().then_some(&WITH_HYPERCALL))
        .map(|guest| format!("timeout 120 {program} guest --json {guest}\n"))
        .collect()
}

/// All threads of the guests: those of the vCPUs, and the one that made them.
fn threads(reports: &str) -> Result<BTreeSet<u32>, Failed> {
    let mut threads = BTreeSet::new();
    for report in reports.lines() {
        let report: serde_json::Value = serde_json::from_str(report)?;
        let vms = report["vms"].as_array().ok_or("a guest without VMs")?;
        let vcpus = vms.iter().filter_map(|vm| vm["vcpus"].as_array()).flatten();
        let tids = vcpus.map(|vcpu| &vcpu["tid"]).chain([&report["pid"]]);
        for tid in tids {
            threads.insert(u32::try_from(tid.as_u64().ok_or("no thread id")?)?);
        }
    }
    Ok(threads)
}

fn by_thread(
    text: &str,
    threads: &BTreeSet<u32>,
    hashes: &BTreeSet<String>,
) -> Result<BTreeMap<u32, Vec<Line>>, Failed> {
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let all = text.split_terminator('\n');
    for text in all.filter(|text| !text.starts_with('#')) {
        let mut line = Line::parse(text).ok_or_else(|| format!("no line of a trace: `{text}`"))?;
        if hashes.contains(&line.event) {
            line.take_pointers();
        }
        if threads.contains(&line.tid) {
            lines.entry(line.tid).or_default().push(line);
        }
    }
    Ok(lines)
}

/// What the comparison has found so far.
#[derive(Debug, Default)]
struct EventCounter {
    /// Lines that are alike, by event.
    alike: BTreeMap<String, u64>,
    /// Lines that have none like them on the other side.
    ours_alone: Vec<Line>,
    theirs_alone: Vec<Line>,
    /// Lines that are alike, but not the next on both sides.
    swapped: u64,
    /// The longest time between the two recorders' readings of the clock for one event.
    apart_ns: u64,
    /// The hash of each pointer.
    hashes: BTreeMap<String, String>,
    /// Pointers that had another hash before.
    other_hashes: u64,
}

impl EventCounter {
    /// Compares what one thread did.
    fn compare(&mut self, ours: Vec<Line>, theirs: Vec<Line>) {
        let mut theirs = VecDeque::from(theirs);
        for line in ours {
            let found = theirs.iter().take(AHEAD).position(|it| line.is_like(it));
            let Some(other) = found.and_then(|at| theirs.remove(at)) else {
                self.ours_alone.push(line);
                continue;
            };
            self.swapped += u64::from(found != Some(0));
            self.apart_ns = self.apart_ns.max(line.time_ns.abs_diff(other.time_ns));
            for (pointer, hash) in line.pointers.into_iter().zip(other.pointers) {
                let known = self.hashes.entry(pointer).or_insert_with(|| hash.clone());
                self.other_hashes += u64::from(*known != hash);
            }
            *self.alike.entry(line.event).or_default() += 1;
        }
        self.theirs_alone.extend(theirs);
    }

    fn print(&self) {
        println!("\nwords_are_the_kernels: lines alike");
        for (event, count) in &self.alike {
            println!("  {event:32} {count:>8}");
        }
        let lines: u64 = self.alike.values().sum();
        println!(
            "  {} events, {lines} lines; {} in another order; times at most {} µs apart",
            self.alike.len(),
            self.swapped,
            self.apart_ns / 1000
        );
    }

    fn verdict(&self) -> Result<(), Failed> {
        const SHOWN: usize = 20;
        let list = |lines: &[Line]| -> String {
            let shown = lines.iter().take(SHOWN);
            shown.map(|line| format!("\n  {line}")).collect()
        };
        if !self.ours_alone.is_empty() || !self.theirs_alone.is_empty() {
            return Err(format!(
                "{} lines of ours are not ftrace's:{}\n{} lines of ftrace's are not ours:{}",
                self.ours_alone.len(),
                list(&self.ours_alone),
                self.theirs_alone.len(),
                list(&self.theirs_alone),
            )
            .into());
        }
        if self.other_hashes > 0 {
            return Err(format!("{} pointers changed their hash", self.other_hashes).into());
        }
        let lines: u64 = self.alike.values().sum();
        if self.swapped * 100 > lines {
            return Err(format!("{} of {lines} lines are in another order", self.swapped).into());
        }
        if self.alike.len() < LEAST_EVENTS {
            return Err(format!("only {} events were exercised", self.alike.len()).into());
        }
        Ok(())
    }
}
