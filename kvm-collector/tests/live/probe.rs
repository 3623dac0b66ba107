//! What the eBPF programs store, read through the library: cases that the built-in guest does not make.

use std::{
    error::Error,
    process::{Command, Stdio, id},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_collector::{
    host::clock::monotonic_ns,
    probe::{AttachedPrograms, MapSizes, Request},
    timing::{Filter, TimingRequest},
    tracefs::{Format, Tracefs},
};
use kvm_ebpf_common::VcpuThread;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    exits::REQUIREMENTS,
    requirements::test,
};

pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_vcpu_moves_between_two_threads", REQUIREMENTS, || {
            moves().map_err(failed)
        }),
        test("a_vcpu_moves_to_new_threads", REQUIREMENTS, || {
            moves_to_new_threads().map_err(failed)
        }),
        test(
            "vcpus_of_two_vms_in_a_process_do_not_move",
            REQUIREMENTS,
            || two_vms().map_err(failed),
        ),
        test(
            "a_thread_that_runs_two_vcpus_keeps_guest_time",
            REQUIREMENTS,
            || two_vcpus().map_err(failed),
        ),
        test("a_skipped_process_is_not_counted", REQUIREMENTS, || {
            skipped().map_err(failed)
        }),
        test("rows_are_final_after_the_end", REQUIREMENTS, || {
            final_rows().map_err(failed)
        }),
        test("a_ring_says_when_it_lost_records", REQUIREMENTS, || {
            losses().map_err(failed)
        }),
    ]
}

fn failed(error: Box<dyn Error + Send + Sync>) -> Failed {
    error.to_string().into()
}

fn hold(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    ensure(holds, message).map_err(|it| it.message().unwrap_or_default().to_owned().into())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure_equal(what, got, expected)
        .map_err(|it| it.message().unwrap_or_default().to_owned().into())
}

#[repr(align(4096))]
struct Page([u8; 4096]);

/// A VM with vCPUs that write to a port in an endless loop, in real mode.
pub(crate) struct Vm(VmFd);

impl Vm {
    pub(crate) fn new() -> Result<Self> {
        const START: u64 = 0x1000;
        let vm = Kvm::new()?.create_vm()?;
        vm.set_tss_address(0xfffb_d000)?;
        // Never freed: the kernel uses it for as long as the VM is there.
        let page = Box::leak(Box::new(Page([0; 4096])));
        // out 0x10, al; jmp to it
        page.0[..4].copy_from_slice(&[0xe6, 0x10, 0xeb, 0xfc]);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: START,
            memory_size: 4096,
            userspace_addr: page.0.as_ptr() as u64,
        };
        // SAFETY: the memory stays where it is.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(Self(vm))
    }

    pub(crate) fn vcpu(&self, index: u64) -> Result<VcpuFd> {
        let vcpu = self.0.create_vcpu(index)?;
        let mut system = vcpu.get_sregs()?;
        (system.cs.base, system.cs.selector) = (0, 0);
        vcpu.set_sregs(&system)?;
        let mut general = vcpu.get_regs()?;
        (general.rip, general.rflags) = (0x1000, 2);
        vcpu.set_regs(&general)?;
        Ok(vcpu)
    }
}

/// Calls `KVM_RUN` so often.
fn run(vcpu: &mut VcpuFd, times: u32) -> Result<()> {
    for _ in 0..times {
        match vcpu.run()? {
            VcpuExit::IoOut(0x10, _) => {}
            other => return Err(format!("an unexpected exit: {other:?}").into()),
        }
    }
    Ok(())
}

/// The formats of the events that timing needs.
struct Formats {
    entry: Format,
    exit: Format,
    pairing: TimingRequest,
}

impl Formats {
    fn read() -> Result<Self> {
        let tracefs = Tracefs::find_or_mount()?;
        let format = |name| tracefs.read_format(&("kvm", name).into());
        Ok(Self {
            entry: format("kvm_entry")?,
            exit: format("kvm_exit")?,
            pairing: TimingRequest {
                entry: Some(format("kvm_entry")?),
                exit: Some(format("kvm_exit")?),
                userspace_exit: Some(format("kvm_userspace_exit")?),
                wakeup: Some(format("kvm_vcpu_wakeup")?),
                ..TimingRequest::default()
            },
        })
    }

    fn attach(&self, skip_processes: bool) -> Result<AttachedPrograms> {
        let mut attached = AttachedPrograms::new(&Request {
            events: &[],
            emit: false,
            per_thread: false,
            timing: Some(&self.pairing),
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

/// What was counted for this process.
#[derive(Debug, Default)]
struct Sums {
    threads: Vec<VcpuThread>,
    count: u64,
    untimed: u64,
    total_ns: u64,
}

fn sums(attached: &mut AttachedPrograms) -> Sums {
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

/// Runs a vCPU each time it is received, and passes it on.
fn take_turns(turns: u32, from: &Receiver<VcpuFd>, to: &Sender<VcpuFd>) -> Result<()> {
    for _ in 0..turns {
        let mut vcpu = from.recv()?;
        run(&mut vcpu, 3)?;
        // The other one is gone after the last turn.
        let _ = to.send(vcpu);
    }
    Ok(())
}

/// Runs a vCPU by two threads in turn, three calls of `KVM_RUN` in each turn.
pub(crate) fn run_in_turns(vcpu: VcpuFd, turns_each: u32) -> Result<()> {
    let (to_first, first) = channel();
    let (to_second, second) = channel();
    to_first.send(vcpu)?;
    let other = thread::spawn(move || take_turns(turns_each, &second, &to_first));
    let own = thread::spawn(move || take_turns(turns_each, &first, &to_second));
    own.join().map_err(|_| "a thread panicked")??;
    other.join().map_err(|_| "a thread panicked")?
}

/// Runs a vCPU by one new thread after the other, each with so many calls of `KVM_RUN`.
pub(crate) fn run_in_new_threads(mut vcpu: VcpuFd, threads: u32, runs: u32) -> Result<()> {
    for _ in 0..threads {
        let turn = thread::spawn(move || run(&mut vcpu, runs).map(|()| vcpu));
        vcpu = turn.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

/// All threads have run the same vCPU, which has no more time than has passed.
fn of_one_vcpu(sums: &Sums, took_ns: u64) -> Result<()> {
    hold(
        sums.threads.iter().all(|it| it.shares_vcpu_index == 0),
        || format!("it is one vCPU: {sums:?}"),
    )?;
    let guest_ns: u64 = sums.threads.iter().map(|it| it.clock.guest_ns).sum();
    hold(guest_ns + sums.total_ns <= took_ns, || {
        format!("{guest_ns} + {} ns of {took_ns}", sums.total_ns)
    })
}

fn moves() -> Result<()> {
    const TURNS: u32 = 200;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let began = Instant::now();
    run_in_turns(vcpu, TURNS)?;
    let took_ns = u64::try_from(began.elapsed().as_nanos())?;
    attached.stop()?;
    let sums = sums(&mut attached);
    let counters = attached.timing_counters();
    // The first turn of each thread begins without an open exit.
    same("moved", counters.moved, u64::from(2 * (TURNS - 1)))?;
    same("untimed", sums.untimed, counters.moved)?;
    same("unmatched", counters.unmatched, 0)?;
    same("threads", sums.threads.len(), 2)?;
    of_one_vcpu(&sums, took_ns)
}

fn moves_to_new_threads() -> Result<()> {
    const THREADS: u32 = 20;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = Vm::new()?;
    let vcpu = vm.vcpu(0)?;
    let began = Instant::now();
    run_in_new_threads(vcpu, THREADS, 10)?;
    let took_ns = u64::try_from(began.elapsed().as_nanos())?;
    attached.stop()?;
    let sums = sums(&mut attached);
    let counters = attached.timing_counters();
    same("threads", sums.threads.len(), 20)?;
    // The last exit of each thread is in progress when the thread ends.
    same("moved", counters.moved, 0)?;
    same("untimed", sums.untimed, 0)?;
    of_one_vcpu(&sums, took_ns)
}

fn two_vms() -> Result<()> {
    const RUNS: u32 = 5_000;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vms = [Vm::new()?, Vm::new()?];
    let mut threads = Vec::new();
    for vm in &vms {
        let mut vcpu = vm.vcpu(0)?;
        threads.push(thread::spawn(move || run(&mut vcpu, RUNS)));
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    attached.stop()?;
    let sums = sums(&mut attached);
    let counters = attached.timing_counters();
    same("untimed", sums.untimed, counters.moved)?;
    let separate = sums
        .threads
        .iter()
        .filter(|it| it.shares_vcpu_index != 0)
        .count();
    hold(separate == 1, || {
        format!("{separate} are separate: {sums:?}")
    })?;
    hold(counters.moved < u64::from(RUNS) / 50, || {
        format!("{} of {} moved", counters.moved, sums.count)
    })
}

fn two_vcpus() -> Result<()> {
    const ROUNDS: usize = 20;
    let formats = Formats::read()?;
    let mut attached = formats.attach(false)?;
    let vm = Vm::new()?;
    let mut vcpus = [vm.vcpu(0)?, vm.vcpu(1)?];
    let thread = thread::spawn(move || -> Result<()> {
        for _ in 0..ROUNDS {
            for vcpu in &mut vcpus {
                run(vcpu, 2)?;
            }
        }
        Ok(())
    });
    thread.join().map_err(|_| "the thread panicked")??;
    attached.stop()?;
    let sums = sums(&mut attached);
    same("entries", sums.threads.len(), 2 * ROUNDS)?;
    // But for the very first: the thread was not known when it entered the guest.
    for thread in &sums.threads[1..] {
        hold(thread.clock.guest_ns > 0, || {
            format!("never in the guest: {thread:?}")
        })?;
    }
    hold(
        sums.threads.iter().all(|it| it.clock.guest_since_ns == 0),
        || format!("all have left the guest: {sums:?}"),
    )
}

fn skipped() -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let formats = Formats::read()?;
    let mut attached = formats.attach(true)?;
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    run(&mut vcpu, 10)?;
    let before = sums(&mut attached);
    hold(before.count >= 9, || format!("{before:?}"))?;
    attached.skip_process(id())?;
    same("skipped", attached.skipped_processes()?, vec![id()])?;
    run(&mut vcpu, 10)?;
    thread::sleep(PAUSE);
    let during = sums(&mut attached);
    same("exits while skipped", during.count, before.count)?;
    attached.unskip_process(id())?;
    run(&mut vcpu, 10)?;
    let after = sums(&mut attached);
    hold(after.count >= before.count + 9, || format!("{after:?}"))?;
    hold(after.total_ns < 100_000_000, || {
        format!("the pause is no exit: {after:?}")
    })?;
    // Of a process that ends, nothing remains; nor of one that has ended.
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()?;
    attached.skip_process(child.id())?;
    same("skipped", attached.skipped_processes()?, vec![child.id()])?;
    child.kill()?;
    child.wait()?;
    same("skipped", attached.skipped_processes()?, vec![])?;
    attached.skip_process(child.id())?;
    same("skipped", attached.skipped_processes()?, vec![])?;
    attached.unskip_process(child.id())?;
    Ok(())
}

/// vCPUs that run, more than there are CPUs, while counting is stopped: afterwards nothing changes any more, and each exit
/// that has a time is in one bucket.
fn final_rows() -> Result<()> {
    let formats = Formats::read()?;
    for round in 0..10 {
        let mut attached = formats.attach(false)?;
        let ends = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..4 {
            let vm = Vm::new()?;
            let (mut vcpu, ends) = (vm.vcpu(0)?, ends.clone());
            threads.push(thread::spawn(move || -> Result<()> {
                while !ends.load(Ordering::Relaxed) {
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
            let threads: Vec<_> = attached.vcpu_threads().map(|it| it.0).collect();
            threads
                .iter()
                .flat_map(|it| attached.exit_rows(*it).map(|(index, row, _)| (index, row)))
                .collect()
        };
        let rows = read(&mut attached);
        thread::sleep(Duration::from_millis(30));
        let later = read(&mut attached);
        ends.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        same("rows after the end", &later, &rows)?;
        hold(rows.len() >= 4, || format!("{} rows", rows.len()))?;
        for (_, row) in &rows {
            let timed = row.stats.count - row.stats.untimed;
            same("in buckets", row.stats.histogram.iter().sum::<u64>(), timed)?;
        }
    }
    Ok(())
}

fn losses() -> Result<()> {
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
    let vm = Vm::new()?;
    let mut vcpu = vm.vcpu(0)?;
    let began_ns = monotonic_ns();
    run(&mut vcpu, 2)?;
    while !rings.drain().is_empty() {}
    same("losses", rings.take_losses().count(), 0)?;
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
                .map(|(_, it)| (it.header.cpu, it.header.time_ns)),
        );
    }
    attached.stop()?;
    let losses: Vec<_> = rings.take_losses().collect();
    let lost: u64 = losses.iter().map(|it| it.count).sum();
    hold(lost > 0, || format!("{} records", records.len()))?;
    same("lost", lost, attached.slot_counts()?[0].lost)?;
    for loss in &losses {
        hold(
            loss.from_ns >= began_ns && loss.from_ns <= early_ns && loss.to_ns >= late_ns,
            || format!("{loss:?} is not from before {early_ns} until after {late_ns}"),
        )?;
    }
    Ok(())
}
