//! The number of free entries of a table of bounded size.

use kvm_ebpf_common::TimingCounters;

/// Free entries of a table.
#[derive(Debug)]
pub(super) struct Capacity {
    free: usize,
    /// Whether the table can have entries at all.
    is_enabled: bool,
}

impl Capacity {
    /// Creates the capacity for `entries` entries.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            free: entries,
            is_enabled: entries > 0,
        }
    }

    /// Reserves an entry. Returns whether there was a free one.
    pub(super) fn try_reserve(&mut self) -> bool {
        let is_free = self.free > 0;
        self.free -= usize::from(is_free);
        is_free
    }

    /// Releases reserved entries.
    pub(super) fn release(&mut self, entries: usize) {
        self.free += entries;
    }

    /// Counts a row that found no free entry. This is no loss if rows are not requested at all.
    pub(super) fn count_full_table(&self, counters: &mut TimingCounters) {
        counters.rows_full += u64::from(self.is_enabled);
    }
}
