//! Points in a stream at which events are missing.
//!
//! Nothing is known about a lost event, not even its thread. A thread may have lost events between
//! two of its events if events were lost meanwhile on the CPU of either of the two. This misses one
//! case: the thread moves to a third CPU, loses events there, and moves back before its next event.

/// CPUs with higher numbers share one marker.
const MAX_CPUS: usize = 1 << 16;

/// The latest loss markers. Markers are numbered from 1.
#[derive(Debug, Default)]
pub(super) struct LossMarkers {
    count: u64,
    /// The last marker that applies to all CPUs.
    last_on_any_cpu: u64,
    /// The last marker of each CPU.
    last_by_cpu: Vec<u64>,
}

impl LossMarkers {
    /// Adds a marker for one CPU, or for all CPUs.
    pub(super) fn add(&mut self, cpu: Option<u32>) {
        self.count += 1;
        match cpu.map(|cpu| cpu as usize) {
            Some(cpu) if cpu < MAX_CPUS => {
                if self.last_by_cpu.len() <= cpu {
                    self.last_by_cpu.resize(cpu + 1, 0);
                }
                self.last_by_cpu[cpu] = self.count;
            }
            _ => self.last_on_any_cpu = self.count,
        }
    }

    /// Returns the number of markers so far.
    #[inline]
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether a CPU may have lost events after the marker with number `marker`.
    pub(super) fn has_lost_since(&self, marker: u64, cpu: u32) -> bool {
        let last = self.last_by_cpu.get(cpu as usize);
        self.last_on_any_cpu > marker || last.is_some_and(|last| *last > marker)
    }
}
