//! Counters per thread and slot, in memory that is shared with the eBPF programs.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use kvm_ebpf_common::CountedThread;

use super::{ProbeError, mapped::MappedArray, tables, thread_table::ThreadTable};

/// The tables of threads with event counts of their own.
#[derive(Debug)]
pub(super) struct CountedThreadTables {
    pub(super) threads: ThreadTable<CountedThread>,
    counts: MappedArray<u64>,
    slots: usize,
}

impl CountedThreadTables {
    /// Opens the tables. `slots` is the number of slots in use.
    pub(super) fn open(ebpf: &Ebpf, slots: usize) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: ThreadTable::open(ebpf, "COUNTED_THREADS")?,
            counts: MappedArray::open(ebpf, "THREAD_COUNTS")?,
            slots,
        })
    }

    /// Returns the counters of an entry, by slot.
    pub(super) fn counts(&self, index: u32) -> impl Iterator<Item = u64> {
        let counts = &self.counts.words()[index as usize * self.slots..][..self.slots];
        counts.iter().map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Frees the entry of a thread that has ended.
    pub(super) fn free(&mut self, ebpf: &mut Ebpf, index: u32) -> Result<(), ProbeError> {
        let thread = self.threads.thread(index);
        // First, so that no program finds the entry any more.
        tables::remove_if_index(ebpf, "COUNTED_THREAD_BY_TID", thread.tid(), index)?;
        self.threads.clear(index);
        let counts = &self.counts.words()[index as usize * self.slots..][..self.slots];
        let clear = |counter: &AtomicU64| counter.store(0, Ordering::Relaxed);
        counts.iter().for_each(clear);
        tables::push(ebpf, "FREE_COUNTED_THREADS", [index])
    }
}
