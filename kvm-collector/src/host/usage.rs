//! CPU time and memory in use.

use std::time::Duration;

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use crate::bounds::read_system_file;

/// CPU time of all threads of this process.
#[must_use]
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// CPU time of all guests since boot, with the resolution of a clock tick; `None` if the kernel does not
/// account it.
#[must_use]
pub fn guest_cpu_time() -> Option<Duration> {
    guest_ticks(&read_system_file("/proc/stat").ok()?)
        .map(|ticks| Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1)))
}

/// Sum of `guest` and `guest_nice` over all CPUs, in clock ticks (proc_stat(5)).
fn guest_ticks(stat: &str) -> Option<u64> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut fields = all.split_ascii_whitespace().skip(8);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next().unwrap_or(0))
}

/// Number of CPUs that this process can run on.
#[must_use]
pub fn online_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Peak resident memory of this process (`VmHWM`).
#[must_use]
pub fn peak_resident_bytes() -> Option<u64> {
    let status = read_system_file("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ticks_are_read_from_the_total_line() {
        let stat = "cpu  1 2 3 4 5 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(guest_ticks(stat), Some(100));
        assert_eq!(guest_ticks("cpu  1 2 3\n"), None);
        assert_eq!(guest_ticks(""), None);
    }

    #[test]
    fn cpu_time_and_memory_of_this_process_are_read() {
        assert!(own_cpu_time() > Duration::ZERO);
        assert!(peak_resident_bytes() > Some(1 << 20));
    }
}
