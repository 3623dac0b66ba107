//! Sizes of maps and rings.

use crate::bounds::read_system_file;

/// Sizes of maps.
#[derive(Debug, Clone, Copy)]
pub struct MapSizes {
    /// Bytes of each CPU's ring: a power of two from 4096 to [`MAX_RING_BYTES`].
    pub ring_bytes: u32,
    /// Number of rows of (thread, key).
    pub exit_rows: u32,
    /// Number of vCPU threads.
    pub threads: u32,
    /// Number of threads with event counts of their own: vCPU threads and other threads of VMMs.
    pub counted_threads: u32,
}

/// Minimum number of rows.
const MIN_ROWS: u32 = 4_096;

/// Minimum number of entries for vCPU threads. An entry has 704 bytes.
const MIN_THREADS: u32 = 4_096;

/// Assumed maximum number of vCPUs per CPU, for VMs that start later.
const VCPUS_PER_CPU: usize = 8;

impl MapSizes {
    /// Replaces the size of the rings, if one is given.
    #[must_use]
    pub fn with_rings(self, bytes: Option<u32>) -> Self {
        Self {
            ring_bytes: bytes.unwrap_or(self.ring_bytes),
            ..self
        }
    }

    /// Returns sizes for a host with this many vCPUs now and this many CPUs.
    ///
    /// Each present or expected vCPU gets 25 rows: 20 exit reasons and a quarter in reserve. There are
    /// twice as many thread entries, because entries of ended threads are freed only at a reading.
    #[must_use]
    pub fn for_host(vcpus: usize, cpus: usize) -> Self {
        let vcpus = vcpus.max(cpus.saturating_mul(VCPUS_PER_CPU));
        let vcpus = u32::try_from(vcpus).unwrap_or(u32::MAX);
        Self {
            exit_rows: vcpus.saturating_mul(25).max(MIN_ROWS),
            threads: vcpus.saturating_mul(2).max(MIN_THREADS),
            counted_threads: vcpus.saturating_mul(4).max(2 * MIN_THREADS),
            ..Self::default()
        }
    }
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            ring_bytes: default_ring_bytes(present_cpus()),
            exit_rows: MIN_ROWS,
            threads: MIN_THREADS,
            counted_threads: 2 * MIN_THREADS,
        }
    }
}

/// Maximum size of a ring.
pub const MAX_RING_BYTES: u32 = 64 << 20;

/// Default size of the rings of all CPUs together.
const ALL_RINGS_BYTES: u32 = 64 << 20;

/// Default size of a CPU's ring. A busy CPU fills the minimum in a few milliseconds.
fn default_ring_bytes(cpus: u32) -> u32 {
    let share = ALL_RINGS_BYTES / cpus.max(1);
    (1 << share.max(1).ilog2()).clamp(256 << 10, 4 << 20)
}

/// Highest possible CPU number plus one. Tables with a small entry per CPU have this size.
pub(super) fn possible_cpus() -> u32 {
    read_cpu_count("possible").unwrap_or(4096)
}

/// Highest number of a CPU of the machine plus one, whether it is online or not. The rings of more CPUs would take much memory:
/// firmware and hypervisors often reserve numbers for hundreds of CPUs that can be added.
pub(super) fn present_cpus() -> u32 {
    read_cpu_count("present").map_or_else(possible_cpus, |present| present.min(possible_cpus()))
}

/// Reads a list of CPUs of the kernel (Documentation/admin-guide/cputopology.rst).
fn read_cpu_count(list: &str) -> Option<u32> {
    parse_cpu_count(&read_system_file(format!("/sys/devices/system/cpu/{list}")).ok()?)
}

/// Highest number in a list of CPUs such as `0-3,8`, plus one. The list may have gaps.
fn parse_cpu_count(list: &str) -> Option<u32> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_count_follows_from_the_highest_number() {
        for (list, cpus) in [("0", 1), ("0-3\n", 4), ("0-3,8", 9), ("0,2-5", 6)] {
            assert_eq!(parse_cpu_count(list), Some(cpus), "{list}");
        }
        assert_eq!(parse_cpu_count(""), None);
    }
}
