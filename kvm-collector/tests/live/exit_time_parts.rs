//! The parts of the time of exits, compared with guests with known times: from their arguments, and from measurements by
//! the guest process that do not use KVM's events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use libtest_mimic::{Failed, Trial};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number, get_part},
    guest::{Guest, GuestReport},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
    temp_files::TempFile,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

/// The parts of the time of an exit.
const PARTS: [&str; 4] = ["kernel_ns", "vmm_ns", "halted_ns", "preempted_ns"];

/// The maximum relative difference between a part and its known time. The two measurements differ by a system call or a
/// wake-up, so each test makes its part much longer than that.
const TOLERANCE: f64 = 0.05;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("halted_time_equals_the_timers", REQUIREMENTS, halted_time),
        test("vmm_time_equals_user_space_time", REQUIREMENTS, vmm_time),
        test(
            "preempted_time_equals_the_runqueue_time",
            REQUIREMENTS,
            preempted_time,
        ),
        test(
            "recorded_preempted_time_equals_the_runqueue_time",
            REQUIREMENTS,
            recorded_preempted_time,
        ),
        test("guest_time_is_the_rest", REQUIREMENTS, guest_time),
    ]
}

/// The guest sets a timer and halts until it fires, in the kernel.
fn halted_time() -> Result<(), Failed> {
    // Between setting the timer and halting, there is an entry and an exit: about 100 us under emulation. On a busy machine,
    // the timers of the emulator are late by 1 or 2 ms. Compared with 100 ms, both are small.
    let run = Run::new(&["-k", "timer", "-n", "10", "--timer", "100ms"], &[])?;
    let halts = run.row(&["hlt", "HLT"])?;
    ensure_close("halted", get_number(halts, "halted_ns")?, 10 * 100_000_000)?;
    // According to the scheduler, the thread was neither on a CPU nor waiting for one.
    let times = ["elapsed_ns", "cpu_ns", "runqueue_ns"].map(|key| run.guest.sum(key));
    let [elapsed, cpu, runqueue] = times;
    let blocked = elapsed? - cpu? - runqueue?;
    ensure_close("halted, by the scheduler", run.sum("halted_ns")?, blocked)?;
    ensure_equal(
        "halted time of all exits and of hlt",
        run.sum("halted_ns")?,
        get_number(halts, "halted_ns")?,
    )?;
    ensure_equal("VMM time of hlt", get_number(halts, "vmm_ns")?, 0)
}

/// User space sleeps in each exit that it handles, and measures the time.
fn vmm_time() -> Result<(), Failed> {
    let kinds = "io,mmio,hlt,cpuid";
    // The kernel's event and user space's clock reading are up to 200 us apart under emulation on a busy machine. That would
    // be a fifth of 1 ms, but is small compared with 10 ms.
    let run = Run::new(&["-k", kinds, "-n", "40", "--sleep", "10ms"], &[])?;
    let userspace = run.guest.sum("userspace_ns")?;
    ensure(userspace >= 121 * 10_000_000, || {
        format!("user space slept for only {userspace} ns")
    })?;
    ensure_close("VMM", run.sum("vmm_ns")?, userspace)?;
    // The kernel handles cpuid itself.
    let cpuid = run.row(&["cpuid", "CPUID"])?;
    ensure_equal("VMM time of cpuid", get_number(cpuid, "vmm_ns")?, 0)?;
    // Without interrupt controllers in the kernel, hlt exits to user space.
    ensure_equal("halted", run.sum("halted_ns")?, 0)
}

/// A busy thread on the same CPU gets about half of its time.
fn preempted_time() -> Result<(), Failed> {
    let busy = BusyThread::start(1)?;
    let args = ["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"];
    let run = Run::new(&args, &["--preempt"])?;
    drop(busy);
    let waited = run.guest.sum("runqueue_ns")?;
    let elapsed = run.guest.sum("elapsed_ns")?;
    ensure(waited * 4 > elapsed, || {
        format!("the thread waited for a CPU for only {waited} of {elapsed} ns: too little to test")
    })?;
    ensure_close("preempted", run.sum("preempted_ns")?, waited)
}

/// Like [`preempted_time`], with a recording that contains the context switches of the vCPU.
fn recorded_preempted_time() -> Result<(), Failed> {
    const EVENTS: &str = "kvm_exit,kvm_entry,kvm_userspace_exit,kvm_vcpu_wakeup,sched:sched_switch";
    let file = TempFile::new("preempted");
    let file = file.arg()?;
    let busy = BusyThread::start(1)?;
    let guest = Guest::prepare(&["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"])?;
    let record = RunningCollector::start(&["record", "-o", file, "-e", EVENTS, "-p", &guest.pid])?;
    let guest = guest.run()?;
    drop(busy);
    record.end()?.expect_code(0)?;
    let report = run_collector(&["exits", "-i", file, "--json"])?.expect_code(0)?;
    let exits =
        run_collector(&["convert", "-i", file, "--to", "csv", "-o", "-"])?.expect_code(0)?;

    let mut table = csv::Reader::from_reader(exits.stdout.as_bytes());
    let column = table.headers()?.iter().position(|it| it == "preempted_ns");
    let column = column.ok_or("no column preempted_ns")?;
    let mut converted = 0;
    for exit in table.records() {
        // The cell is empty if the exit was in progress at the end.
        let exit = exit?;
        if !exit[column].is_empty() {
            converted += exit[column].parse::<u64>()?;
        }
    }
    let run = Run {
        guest,
        report: report.report()?,
    };
    run.check_sums()?;
    let waited = run.guest.sum("runqueue_ns")?;
    ensure_equal("converted", converted, run.sum("preempted_ns")?)?;
    ensure_close("preempted, recorded", run.sum("preempted_ns")?, waited)
}

/// The guest executes instructions that cause no exits.
fn guest_time() -> Result<(), Failed> {
    let run = Run::new(&["-k", "cpuid", "-n", "20", "--spin", "20000000"], &[])?;
    let vcpus = get_list(&run.report, "vcpus")?;
    ensure_equal("vCPUs", vcpus.len(), 1)?;
    let guest = get_number(&vcpus[0], "guest_ns")?;
    let elapsed = run.guest.sum("elapsed_ns")?;
    ensure(guest * 2 > elapsed, || {
        format!("only {guest} of {elapsed} ns in the guest")
    })
}

/// The reports of a guest with one vCPU, and of `exits` about it.
struct Run {
    guest: GuestReport,
    report: Value,
}

impl Run {
    /// Runs a guest and `exits` with these arguments. Fails unless the parts add up.
    fn new(guest: &[&str], exits: &[&str]) -> Result<Self, Failed> {
        let guest = Guest::prepare(guest)?;
        let args = ["exits", "--json", "-p", &guest.pid];
        let collector = RunningCollector::start(&[&args[..], exits].concat())?;
        let guest = guest.run()?;
        let report = collector.end()?.expect_code(0)?.report()?;
        let run = Self { guest, report };
        run.check_sums()?;
        Ok(run)
    }

    /// Fails unless the parts of each row and of the vCPU add up to the whole time.
    fn check_sums(&self) -> Result<(), Failed> {
        ensure_nothing_lost(&self.report)?;
        for row in get_list(&self.report, "rows")? {
            let sum: u64 = PARTS
                .iter()
                .map(|part| get_part(row, part))
                .sum::<Result<_, _>>()?;
            ensure_equal(
                &format!("the sum of the parts of {row}"),
                sum,
                get_number(row, "total_ns")?,
            )?;
        }
        let [vcpu] = get_list(&self.report, "vcpus")? else {
            return Err(format!("not one vCPU: {}", self.report["vcpus"]).into());
        };
        ensure_equal("the vCPU", get_number(vcpu, "vcpu")?, 0)?;
        for part in PARTS {
            ensure_equal(part, get_part(vcpu, part)?, self.sum(part)?)?;
        }
        let parts: u64 = PARTS
            .iter()
            .map(|part| get_part(vcpu, part))
            .sum::<Result<_, _>>()?;
        // The guest measures from just before its first entry to just after its last exit.
        let elapsed = self.guest.sum("elapsed_ns")?;
        ensure_close(
            "the time of the vCPU",
            get_number(vcpu, "guest_ns")? + parts,
            elapsed,
        )
    }

    /// Returns the row of an exit reason, which has different names on AMD and Intel.
    fn row(&self, reasons: &[&str]) -> Result<&Value, Failed> {
        get_list(&self.report, "rows")?
            .iter()
            .find(|row| {
                row["reason"]
                    .as_str()
                    .is_some_and(|reason| reasons.contains(&reason))
            })
            .ok_or_else(|| format!("no {reasons:?} in {}", self.report).into())
    }

    /// Returns the sum of a part over all rows.
    fn sum(&self, part: &str) -> Result<u64, Failed> {
        get_list(&self.report, "rows")?
            .iter()
            .map(|row| get_part(row, part))
            .sum()
    }
}

/// Fails if a time differs from the known time by more than [`TOLERANCE`].
fn ensure_close(name: &str, actual: u64, known: u64) -> Result<(), Failed> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let error = (actual as f64 - known as f64) / known as f64;
    println!(
        "parts: {name}: {actual} ns, known {known} ns, {:+.2} %",
        error * 100.0
    );
    ensure(error.abs() <= TOLERANCE, || {
        format!("{name}: {actual} ns, but {known} ns are known")
    })
}

/// A thread that keeps a CPU busy until this is dropped.
pub(crate) struct BusyThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BusyThread {
    /// Starts the thread, and binds it to a CPU.
    pub(crate) fn start(cpu: usize) -> Result<Self, Failed> {
        let stop = Arc::new(AtomicBool::new(false));
        let should_stop = Arc::clone(&stop);
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            let _ = sender.send(sched_setaffinity(None, &cpus));
            while !should_stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let busy = Self {
            stop,
            thread: Some(thread),
        };
        receiver
            .recv()?
            .map_err(|error| format!("cannot bind a thread to CPU {cpu}: {error}"))?;
        Ok(busy)
    }
}

impl Drop for BusyThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic.
            let _ = thread.join();
        }
    }
}
