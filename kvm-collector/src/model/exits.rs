//! VM exits with their times.

use kvm_ebpf_common::{BUCKETS, ExitKey, ExitStats, Histogram};

use super::{Loss, percentile_ns};

/// Exits that belong together, with the time from each `kvm_exit` to the thread's next `kvm_entry`.
/// One whose entry had not come yet when it was read is counted, and has no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitTotals {
    /// How many.
    pub count: u64,
    /// How many of them had not been entered from.
    pub open: u64,
    /// The times' sum.
    pub total_ns: u64,
    /// The shortest; `u64::MAX` if there is none.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many in each log2 bucket.
    pub histogram: Histogram,
}

impl Default for ExitTotals {
    fn default() -> Self {
        Self {
            count: 0,
            open: 0,
            total_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            histogram: [0; BUCKETS],
        }
    }
}

impl ExitTotals {
    /// Adds others' exits.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.open += other.open;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        for (to, from) in self.histogram.iter_mut().zip(&other.histogram) {
            *to += from;
        }
    }

    /// How many have a time.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.count - self.open
    }

    /// The mean time; 0 if there is none.
    #[must_use]
    pub fn mean_ns(&self) -> u64 {
        self.total_ns.checked_div(self.timed()).unwrap_or(0)
    }

    /// See [`percentile_ns`].
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        percentile_ns(&self.histogram, percent, self.min_ns, self.max_ns)
    }
}

impl From<&ExitStats> for ExitTotals {
    fn from(stats: &ExitStats) -> Self {
        Self {
            count: stats.count,
            open: 0,
            total_ns: stats.total_ns,
            min_ns: stats.min_ns,
            max_ns: stats.max_ns,
            histogram: stats.histogram,
        }
    }
}

/// The exits of one thread for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadExits {
    /// Whose, and why.
    pub key: ExitKey,
    /// How many, and how long.
    pub totals: ExitTotals,
}

impl ThreadExits {
    /// One exit that has not been entered from.
    #[must_use]
    pub fn open(key: ExitKey) -> Self {
        let totals = ExitTotals {
            count: 1,
            open: 1,
            ..ExitTotals::default()
        };
        Self { key, totals }
    }
}

/// All exits at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitSample {
    /// How long they were watched, in ns.
    pub elapsed_ns: u64,
    /// Of each thread, vCPU and reason; the same may come more than once.
    pub threads: Vec<ThreadExits>,
    /// What is missing.
    pub loss: Loss,
}
