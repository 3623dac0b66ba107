//! The parts of an exit's time against guests whose time is known: by how they are made, and by clocks of the guest's own that know
//! nothing of KVM's events.

use std::{
    env, fs, process,
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
    check::{ensure, equal, list, nothing_lost, number},
    guest::{Guest, GuestReport},
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

/// What an exit's time consists of.
const PARTS: [&str; 4] = ["kernel_ns", "vmm_ns", "halted_ns", "preempted_ns"];

/// By how much a part may differ from what it is known to be. Each test makes its part so long that what lies between the two
/// ways of measuring it (a system call, a wake-up) is less.
const TOLERANCE: f64 = 0.05;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("halted_time_is_the_timers", REQUIREMENTS, halted),
        test("vmm_time_is_what_user_space_took", REQUIREMENTS, vmm),
        test("preempted_time_is_the_schedulers", REQUIREMENTS, preempted),
        test(
            "preempted_time_can_be_recorded",
            REQUIREMENTS,
            preempted_recorded,
        ),
        test("guest_time_is_the_rest", REQUIREMENTS, guest_time),
    ]
}

/// The guest sets a timer and halts until it fires, in the kernel.
fn halted() -> Result<(), Failed> {
    // From the setting to the halt it is an entry and an exit, some 100 us under emulation; and on a busy machine the emulator's
    // timers are late by 1 or 2 ms. Of 100 ms, neither is much.
    let run = Run::of(&["-k", "timer", "-n", "10", "--timer", "100ms"], &[])?;
    let halts = run.row(&["hlt", "HLT"])?;
    close("halted", number(halts, "halted_ns")?, 10 * 100_000_000)?;
    // The thread's own account: neither on a CPU, nor waiting for one, nor in user space.
    let times = ["elapsed_ns", "cpu_ns", "runqueue_ns"].map(|it| run.made.time_ns(it));
    let [elapsed, cpu, runqueue] = times;
    let blocked = elapsed? - cpu? - runqueue?;
    close("halted, by the scheduler", run.sum("halted_ns")?, blocked)?;
    equal(
        "all that is halted is of hlt",
        run.sum("halted_ns")?,
        number(halts, "halted_ns")?,
    )?;
    equal("hlt is not user space's", number(halts, "vmm_ns")?, 0)
}

/// User space sleeps in each exit it handles, and measures how long.
fn vmm() -> Result<(), Failed> {
    let kinds = "io,mmio,hlt,cpuid";
    // From the kernel's last word to user space's first look at the clock, and back, it is up to 200 us under emulation, on a busy
    // machine: a fifth of 1 ms, but not much of 10.
    let run = Run::of(&["-k", kinds, "-n", "40", "--sleep", "10ms"], &[])?;
    let userspace = run.made.time_ns("userspace_ns")?;
    ensure(userspace >= 121 * 10_000_000, || {
        format!("user space slept for {userspace} ns only")
    })?;
    close("user space's", run.sum("vmm_ns")?, userspace)?;
    let kernels = run.row(&["cpuid", "CPUID"])?;
    equal("cpuid is the kernel's", number(kernels, "vmm_ns")?, 0)?;
    // Without interrupt controllers in the kernel, it does not halt there.
    equal("halted", run.sum("halted_ns")?, 0)
}

/// A busy thread on the same CPU takes it away, half of the time.
fn preempted() -> Result<(), Failed> {
    let busy = Busy::on(1)?;
    let args = ["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"];
    let run = Run::of(&args, &["--preempt"])?;
    drop(busy);
    let waited = run.made.time_ns("runqueue_ns")?;
    let elapsed = run.made.time_ns("elapsed_ns")?;
    ensure(waited * 4 > elapsed, || {
        format!("it waited for a CPU for {waited} of {elapsed} ns only: this tests nothing")
    })?;
    close("preempted", run.sum("preempted_ns")?, waited)
}

/// As [`preempted`], of a recording that has the vCPU's switches.
fn preempted_recorded() -> Result<(), Failed> {
    const EVENTS: &str = "kvm_exit,kvm_entry,kvm_userspace_exit,kvm_vcpu_wakeup,sched:sched_switch";
    let file = env::temp_dir().join(format!("kvm-collector-preempted-{}", process::id()));
    let file = file.to_str().ok_or("the path is no text")?;
    let busy = Busy::on(1)?;
    let guest = Guest::prepare(&["-k", "cpuid", "-n", "20", "--spin", "5000000", "--cpu", "1"])?;
    let record = RunningCollector::start(&["record", "-o", file, "-e", EVENTS, "-p", &guest.pid])?;
    let made = guest.run()?;
    drop(busy);
    record.end()?.expect_code(0)?;
    let report = run_collector(&["exits", "-i", file, "--preempt", "--json"])?.expect_code(0)?;
    // Nobody has to ask for it there.
    let exits =
        run_collector(&["convert", "-i", file, "--to", "csv", "-o", "-"])?.expect_code(0)?;
    fs::remove_file(file)?;
    let mut table = csv::Reader::from_reader(exits.stdout.as_bytes());
    let column = table.headers()?.iter().position(|it| it == "preempted_ns");
    let column = column.ok_or("no column preempted_ns")?;
    let mut converted = 0;
    for exit in table.records() {
        // Nothing of one that was not over.
        let exit = exit?;
        if !exit[column].is_empty() {
            converted += exit[column].parse::<u64>()?;
        }
    }
    let run = Run {
        made,
        report: report.report()?,
    };
    run.adds_up()?;
    let waited = run.made.time_ns("runqueue_ns")?;
    equal("converted", converted, run.sum("preempted_ns")?)?;
    close("preempted, recorded", run.sum("preempted_ns")?, waited)
}

/// The guest is busy with itself.
fn guest_time() -> Result<(), Failed> {
    let run = Run::of(&["-k", "cpuid", "-n", "20", "--spin", "20000000"], &[])?;
    let vcpus = list(&run.report, "vcpus")?;
    equal("vCPUs", vcpus.len(), 1)?;
    let guest = number(&vcpus[0], "guest_ns")?;
    let elapsed = run.made.time_ns("elapsed_ns")?;
    ensure(guest * 2 > elapsed, || {
        format!("{guest} of {elapsed} ns in the guest: this tests nothing")
    })
}

/// A guest, and what the collector says of it.
struct Run {
    made: GuestReport,
    report: Value,
}

impl Run {
    /// Runs one vCPU. Whatever it does, its parts add up.
    fn of(guest: &[&str], exits: &[&str]) -> Result<Self, Failed> {
        let guest = Guest::prepare(guest)?;
        let args = ["exits", "--json", "-p", &guest.pid];
        let watch = RunningCollector::start(&[&args[..], exits].concat())?;
        let made = guest.run()?;
        let report = watch.end()?.expect_code(0)?.report()?;
        let run = Self { made, report };
        run.adds_up()?;
        Ok(run)
    }

    fn adds_up(&self) -> Result<(), Failed> {
        nothing_lost(&self.report)?;
        for row in list(&self.report, "rows")? {
            let sum: u64 = PARTS
                .iter()
                .map(|part| part_of(row, part))
                .sum::<Result<_, _>>()?;
            equal(
                &format!("the sum of the parts of {row}"),
                sum,
                number(row, "time_ns")?,
            )?;
        }
        let [vcpu] = list(&self.report, "vcpus")? else {
            return Err(format!("not one vCPU: {}", self.report["vcpus"]).into());
        };
        equal("the vCPU", number(vcpu, "vcpu")?, 0)?;
        for part in PARTS {
            equal(part, part_of(vcpu, part)?, self.sum(part)?)?;
        }
        let parts: u64 = PARTS
            .iter()
            .map(|part| part_of(vcpu, part))
            .sum::<Result<_, _>>()?;
        // From the first entry to the last exit: what is missing lies before the one and after the other.
        let elapsed = self.made.time_ns("elapsed_ns")?;
        close(
            "all of a vCPU's time",
            number(vcpu, "guest_ns")? + parts,
            elapsed,
        )
    }

    fn row(&self, reasons: &[&str]) -> Result<&Value, Failed> {
        list(&self.report, "rows")?
            .iter()
            .find(|row| {
                row["reason"]
                    .as_str()
                    .is_some_and(|it| reasons.contains(&it))
            })
            .ok_or_else(|| format!("no {reasons:?} in {}", self.report).into())
    }

    fn sum(&self, part: &str) -> Result<u64, Failed> {
        list(&self.report, "rows")?
            .iter()
            .map(|row| part_of(row, part))
            .sum()
    }
}

/// A part of the time; what was not asked for (`--preempt`) may be left out, or null, and is then in none of the others' way.
fn part_of(object: &Value, part: &str) -> Result<u64, Failed> {
    if part == "preempted_ns" && object[part].is_null() {
        return Ok(0);
    }
    number(object, part)
}

fn close(what: &str, ours: u64, known: u64) -> Result<(), Failed> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let off = (ours as f64 - known as f64) / known as f64;
    println!(
        "parts: {what}: {ours} ns, known {known} ns, {:+.2} %",
        off * 100.0
    );
    ensure(off.abs() <= TOLERANCE, || {
        format!("{what}: {ours} ns, where {known} ns are known")
    })
}

/// A thread of ours that keeps a CPU busy until dropped.
pub(crate) struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    pub(crate) fn on(cpu: usize) -> Result<Self, Failed> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let (tell, bound) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            let _ = tell.send(sched_setaffinity(None, &cpus));
            while !seen.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let busy = Self {
            stop,
            thread: Some(thread),
        };
        bound
            .recv()?
            .map_err(|error| format!("cannot be busy on CPU {cpu}: {error}"))?;
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to panic about.
            let _ = thread.join();
        }
    }
}
