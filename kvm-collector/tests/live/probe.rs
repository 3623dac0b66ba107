//! The data that the eBPF programs store, read with the library, for cases that the built-in guest does not cause.

use std::{
    process::{Command, Stdio, id},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kvm_collector::{
    host::clock::monotonic_ns,
    probe::{AttachedPrograms, MapSizes, Request},
    timing::{Filter, TimingRequest},
    tracefs::{Format, Tracefs},
};
use kvm_ebpf_common::VcpuThread;
use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    endless_vm::{EndlessVm, run, run_in_new_threads, run_in_turns},
    exits::REQUIREMENTS,
    requirements::test,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_vcpu_moves_between_two_threads", REQUIREMENTS, moves),
        test(
            "a_vcpu_moves_to_new_threads",
            REQUIREMENTS,
            moves_to_new_threads,
        ),
        test(
            "vcpus_of_two_vms_in_a_process_do_not_move",
            REQUIREMENTS,
            two_vms,
        ),
        test(
            "a_thread_that_alternates_between_two_vcpus_has_guest_time",
            REQUIREMENTS,
            two_vcpus,
        ),
        test("skipped_processes_are_not_counted", REQUIREMENTS, skipped),
        test("rows_do_not_change_after_stop", REQUIREMENTS, final_rows),
        test(
            "a_ring_reports_when_it_lost_records",
            REQUIREMENTS,
            lost_records,
        ),
    ]
}

/// The formats of the events that timing needs.
struct Formats {
    entry: Format,
    exit: Format,
    timing: TimingRequest,
}

impl Formats {
    fn read() -> Result<Self, Failed> {
        let tracefs = Tracefs::find_or_mount()?;
        let format = |name| tracefs.read_format(&("kvm", name).into());
        Ok(Self {
            entry: format("kvm_entry")?,
            exit: format("kvm_exit")?,
            timing: TimingRequest {
                entry: Some(format("kvm_entry")?),
                exit: Some(format("kvm_exit")?),
                userspace_exit: Some(format("kvm_userspace_exit")?),
                wakeup: Some(format("kvm_vcpu_wakeup")?),
                ..TimingRequest::default()
            },
        })
    }

    fn attach(&self, skip_processes: bool) -> Result<AttachedPrograms, Failed> {
        let mut attached = AttachedPrograms::new(&Request {
            events: &[],
            emit: false,
            per_thread: false,
            timing: Some(&self.timing),
            entry_format: Some(&self.entry),
            filter: &Filter::default(),
            skip_processes,
            sizes: MapSizes::default(),
            log: false,
        })?;
        attached.start()?;
        Ok(attached)
    }
}

/// The counts and times of this process.
#[derive(Debug, Default)]
struct Sums {
    threads: Vec<VcpuThread>,
    count: u64,
    untimed: u64,
    total_ns: u64,
}

/// Reads the rows of all threads of this process.
fn read_sums(attached: &mut AttachedPrograms) -> Sums {
    attached.read_notifications();
    let mut sums = Sums::default();
    for (index, thread) in attached.vcpu_threads() {
        if thread.tgid() != id() {
            continue;
        }
        for (_, row, _) in attached.exit_rows(index) {
            sums.count += row.stats.count;
            sums.untimed += row.stats.untimed;
            sums.total_ns += row.stats.total_ns;
        }
        sums.threads.push(thread);
    }
    sums
}

/// Fails unless all threads ran the same vCPU, whose time is at most the elapsed time.
fn check_one_vcpu(sums: &Sums, elapsed_ns: u64) -> Result<(), Failed> {
    ensure(
        sums.threads
            .iter()
            .all(|thread| thread.shares_vcpu_index == 0),
        || format!("more than one vCPU: {sums:?}"),
    )?;
    let guest_ns: u64 = sums
        .threads
        .iter()
        .map(|thread| thread.clock.guest_ns)
        .sum();
    ensure(guest_ns + sums.total_ns <= elapsed_ns, || {
        format!("{guest_ns} + {} ns of {elapsed_ns}", sums.total_ns)
    })
}

fn moves() -> Result<(), Failed> {
    const TURNS: u32 = 200;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = EndlessVm::new()?;
    let vcpu = vm.vcpu(0)?;
    let start = Instant::now();
    run_in_turns(vcpu, TURNS)?;
    let elapsed_ns = u64::try_from(start.elapsed().as_nanos())?;
    attached.stop()?;
    let sums = read_sums(&mut attached);
    let counters = attached.timing_counters();
    // At the first turn of each thread, there is no open exit.
    ensure_equal("moved", counters.moved, u64::from(2 * (TURNS - 1)))?;
    ensure_equal("untimed", sums.untimed, counters.moved)?;
    ensure_equal("unmatched", counters.unmatched, 0)?;
    ensure_equal("threads", sums.threads.len(), 2)?;
    check_one_vcpu(&sums, elapsed_ns)
}

fn moves_to_new_threads() -> Result<(), Failed> {
    const THREADS: u32 = 20;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = EndlessVm::new()?;
    let vcpu = vm.vcpu(0)?;
    let start = Instant::now();
    run_in_new_threads(vcpu, THREADS, 10)?;
    let elapsed_ns = u64::try_from(start.elapsed().as_nanos())?;
    attached.stop()?;
    let sums = read_sums(&mut attached);
    let counters = attached.timing_counters();
    ensure_equal("threads", sums.threads.len(), 20)?;
    // The last exit of each thread is in progress when the thread ends.
    ensure_equal("moved", counters.moved, 0)?;
    ensure_equal("untimed", sums.untimed, 0)?;
    check_one_vcpu(&sums, elapsed_ns)
}

fn two_vms() -> Result<(), Failed> {
    const RUNS: u32 = 5_000;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vms = [EndlessVm::new()?, EndlessVm::new()?];
    let mut threads = Vec::new();
    for vm in &vms {
        let mut vcpu = vm.vcpu(0)?;
        threads.push(thread::spawn(move || run(&mut vcpu, RUNS)));
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    attached.stop()?;
    let sums = read_sums(&mut attached);
    let counters = attached.timing_counters();
    ensure_equal("untimed", sums.untimed, counters.moved)?;
    let separate = sums
        .threads
        .iter()
        .filter(|thread| thread.shares_vcpu_index != 0)
        .count();
    ensure(separate == 1, || {
        format!("{separate} threads share a vCPU index: {sums:?}")
    })?;
    ensure(counters.moved < u64::from(RUNS) / 50, || {
        format!("{} of {} moved", counters.moved, sums.count)
    })
}

fn two_vcpus() -> Result<(), Failed> {
    const ROUNDS: usize = 20;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = EndlessVm::new()?;
    let mut vcpus = [vm.vcpu(0)?, vm.vcpu(1)?];
    let thread = thread::spawn(move || -> Result<(), Failed> {
        for _ in 0..ROUNDS {
            for vcpu in &mut vcpus {
                run(vcpu, 2)?;
            }
        }
        Ok(())
    });
    thread.join().map_err(|_| "the thread panicked")??;
    attached.stop()?;
    let sums = read_sums(&mut attached);
    ensure_equal("entries", sums.threads.len(), 2 * ROUNDS)?;
    // The first entry has none, since the thread was not known when it entered the guest.
    for thread in &sums.threads[1..] {
        ensure(thread.clock.guest_ns > 0, || {
            format!("no guest time: {thread:?}")
        })?;
    }
    ensure(
        sums.threads
            .iter()
            .all(|thread| thread.clock.guest_since_ns == 0),
        || format!("a thread is still in the guest: {sums:?}"),
    )
}

fn skipped() -> Result<(), Failed> {
    const PAUSE: Duration = Duration::from_millis(100);
    let formats = Formats::read()?;
    let mut attached = formats.attach(true)?;
    let vm = EndlessVm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    run(&mut vcpu, 10)?;
    let before = read_sums(&mut attached);
    ensure(before.count >= 9, || format!("{before:?}"))?;
    attached.skip_process(id())?;
    ensure_equal("skipped", attached.skipped_processes()?, vec![id()])?;
    run(&mut vcpu, 10)?;
    thread::sleep(PAUSE);
    let during = read_sums(&mut attached);
    ensure_equal("exits while skipped", during.count, before.count)?;
    attached.unskip_process(id())?;
    run(&mut vcpu, 10)?;
    let after = read_sums(&mut attached);
    ensure(after.count >= before.count + 9, || format!("{after:?}"))?;
    ensure(after.total_ns < 100_000_000, || {
        format!("the pause was counted as an exit: {after:?}")
    })?;
    // A process is removed from the list when it ends, and cannot be added afterwards.
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()?;
    attached.skip_process(child.id())?;
    ensure_equal("skipped", attached.skipped_processes()?, vec![child.id()])?;
    child.kill()?;
    child.wait()?;
    ensure_equal("skipped", attached.skipped_processes()?, vec![])?;
    attached.skip_process(child.id())?;
    ensure_equal("skipped", attached.skipped_processes()?, vec![])?;
    attached.unskip_process(child.id())?;
    Ok(())
}

/// Counting is stopped while more vCPUs run than there are CPUs. The rows do not change afterwards, and each exit with a time
/// is in one histogram bucket.
fn final_rows() -> Result<(), Failed> {
    let formats = Formats::read()?;
    for round in 0..10 {
        let mut attached = formats.attach(false)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..4 {
            let vm = EndlessVm::new()?;
            let (mut vcpu, stop) = (vm.vcpu(0)?, stop.clone());
            threads.push(thread::spawn(move || -> Result<(), Failed> {
                while !stop.load(Ordering::Relaxed) {
                    run(&mut vcpu, 1)?;
                }
                drop(vm);
                Ok(())
            }));
        }
        thread::sleep(Duration::from_millis(100 + 7 * round));
        attached.stop()?;
        let read = |attached: &mut AttachedPrograms| -> Vec<_> {
            attached.read_notifications();
            let threads: Vec<_> = attached.vcpu_threads().map(|(index, _)| index).collect();
            threads
                .iter()
                .flat_map(|index| {
                    attached
                        .exit_rows(*index)
                        .map(|(index, row, _)| (index, row))
                })
                .collect()
        };
        let rows = read(&mut attached);
        thread::sleep(Duration::from_millis(30));
        let later = read(&mut attached);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        ensure_equal("rows after stop", &later, &rows)?;
        ensure(rows.len() >= 4, || format!("{} rows", rows.len()))?;
        for (_, row) in &rows {
            let timed = row.stats.count - row.stats.untimed;
            ensure_equal(
                "exits in buckets",
                row.stats.histogram.iter().sum::<u64>(),
                timed,
            )?;
        }
    }
    Ok(())
}

fn lost_records() -> Result<(), Failed> {
    let formats = Formats::read()?;
    let events = [formats.exit.clone()];
    let mut attached = AttachedPrograms::new(&Request {
        events: &events,
        emit: true,
        per_thread: false,
        timing: None,
        entry_format: None,
        filter: &Filter::default(),
        skip_processes: false,
        sizes: MapSizes::default().with_rings(Some(4096)),
        log: false,
    })?;
    let mut rings = attached.take_rings().ok_or("there are no rings")?;
    attached.start()?;
    let vm = EndlessVm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let start_ns = monotonic_ns();
    run(&mut vcpu, 2)?;
    while !rings.drain().is_empty() {}
    ensure_equal("losses", rings.take_losses().count(), 0)?;
    let early_ns = monotonic_ns();
    run(&mut vcpu, 1_000)?;
    let late_ns = monotonic_ns();
    let mut records = Vec::new();
    loop {
        let batch = rings.drain();
        if batch.is_empty() {
            break;
        }
        records.extend(
            batch
                .records()
                .map(|(_, record)| (record.header.cpu, record.header.time_ns)),
        );
    }
    attached.stop()?;
    let losses: Vec<_> = rings.take_losses().collect();
    let lost: u64 = losses.iter().map(|loss| loss.count).sum();
    ensure(lost > 0, || {
        format!("no record was lost, {} were read", records.len())
    })?;
    ensure_equal("lost", lost, attached.slot_counts()?[0].lost)?;
    for loss in &losses {
        ensure(
            loss.from_ns >= start_ns && loss.from_ns <= early_ns && loss.to_ns >= late_ns,
            || format!("{loss:?} is not from before {early_ns} until after {late_ns}"),
        )?;
    }
    Ok(())
}
