//! Other threads keep all CPUs busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use libtest_mimic::Failed;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::load::{Load, check_all_accounted};
use crate::{
    check::{ensure_equal, get_number},
    running_collector::RunningCollector,
};

/// Three threads on each CPU that keep it busy until this is dropped.
struct BusyCpus {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyCpus {
    fn start() -> Result<Self, Failed> {
        let allowed = sched_getaffinity(None)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)) {
            let mut only = CpuSet::new();
            only.set(cpu);
            for _ in 0..3 {
                let stop = Arc::clone(&stop);
                threads.push(thread::spawn(move || {
                    // If the thread cannot be bound, it is busy on another CPU.
                    let _ = sched_setaffinity(None, &only);
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                }));
            }
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for BusyCpus {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(super) fn busy_cpus() -> Result<(), Failed> {
    let load = Load::prepare("5000")?;
    let pid = load.pid();
    let pio = ["exits", "--json", "--kind", "pio", "-I", "20ms", "-p", &pid];
    let exits = RunningCollector::start(&pio)?;
    let trace = RunningCollector::start(&["trace", "--json", "--ring", "16K", "-p", &pid])?;
    let busy = BusyCpus::start()?;
    let load_report = load.run()?;
    drop(busy);
    let report = exits.end()?.expect_code(0)?.report()?;
    let expected = load_report.guest.operation_count(0, "io")?;
    ensure_equal("exits", get_number(&report, "count")?, expected)?;
    check_all_accounted(&trace.end()?.expect_code(0)?, &load_report)
}
