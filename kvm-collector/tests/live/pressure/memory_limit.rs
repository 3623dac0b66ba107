//! A limit for the growth of the memory of a process.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;

use crate::check::ensure;

/// The memory of a collector with small buffers may grow by this much: the output buffer and a little more.
const MAX_GROWTH_KIB: u64 = 4 << 10;

/// Reads a value in `/proc/PID/status`.
pub(super) fn read_status(pid: u32, name: &str) -> Result<String, Failed> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
        .ok_or_else(|| format!("no {name} of process {pid}").into())
}

/// The resident memory of a process, which must not grow much.
pub(super) struct MemoryLimit {
    pid: u32,
    before_kib: u64,
}

impl MemoryLimit {
    /// Reads the current size, from which growth is measured.
    pub(super) fn new(pid: u32) -> Result<Self, Failed> {
        let before_kib = wait_until_started(pid)?;
        // Resets the peak (VmHWM), which was reached when the programs were loaded.
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        Ok(Self { pid, before_kib })
    }

    /// Fails if the peak since [`MemoryLimit::new`] is larger than the limit.
    pub(super) fn check(&self) -> Result<(), Failed> {
        let peak = read_status(self.pid, "VmHWM")?;
        let peak_kib: u64 = peak.trim_end_matches(" kB").parse()?;
        ensure(peak_kib <= self.before_kib + MAX_GROWTH_KIB, || {
            format!("memory grew from {} KiB to {peak_kib}", self.before_kib)
        })
    }
}

/// Waits until the collector touches no more code and data for the first time: its size is the same for 300 ms, or 5 s have
/// passed. Returns the size in KiB.
fn wait_until_started(pid: u32) -> Result<u64, Failed> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut latest_kib = resident_kib(pid)?;
    loop {
        thread::sleep(Duration::from_millis(300));
        let resident_kib = resident_kib(pid)?;
        if resident_kib == latest_kib || Instant::now() >= deadline {
            return Ok(resident_kib);
        }
        latest_kib = resident_kib;
    }
}

/// Returns the resident memory of a process.
fn resident_kib(pid: u32) -> Result<u64, Failed> {
    // Before Linux 6.2, VmRSS lacks pages that a thread has not yet accounted for, even those of a whole mapped table.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let resident = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let resident = resident.and_then(|size| size.trim().strip_suffix(" kB"));
    Ok(resident.ok_or("no Rss")?.parse()?)
}
