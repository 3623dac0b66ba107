//! Counters for each thread and slot, read without a system call.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::Ebpf;
use kvm_ebpf_common::CountedThread;

use super::{ProbeError, entries::Entries, mapped::Mapped, tables};

/// The tables of threads whose events are counted by themselves.
#[derive(Debug)]
pub(super) struct CountedThreads {
    threads: Mapped<CountedThread>,
    counts: Mapped<u64>,
    slots: usize,
    pub(super) entries: Entries,
}

impl CountedThreads {
    /// With so many slots in use.
    pub(super) fn of(ebpf: &Ebpf, slots: usize) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: Mapped::of(ebpf, "COUNTED_THREADS")?,
            counts: Mapped::of(ebpf, "THREAD_COUNTS")?,
            slots,
            entries: Entries::default(),
        })
    }

    /// Searches the whole table, after notices were lost.
    /// Returns the entries that were not known.
    pub(super) fn search(&mut self) -> Vec<u32> {
        let (threads, entries) = (&self.threads, &mut self.entries);
        let word = |index, offset| threads.word(index as usize, offset).load(Ordering::Acquire);
        entries.search(threads.len(), |index| {
            let is_used = word(index, offset_of!(CountedThread, owner)) != 0;
            (is_used, word(index, offset_of!(CountedThread, ended)) != 0)
        })
    }

    /// Is there such an entry?
    pub(super) fn contains(&self, index: u32) -> bool {
        (index as usize) < self.threads.len()
    }

    /// Is an entry this thread's?
    pub(super) fn is_of(&self, index: u32, tgid: u32, tid: u32) -> bool {
        self.contains(index) && self.thread(index).owner == u64::from(tgid) << 32 | u64::from(tid)
    }

    /// Has the thread of an entry ended?
    pub(super) fn has_ended(&self, index: u32) -> bool {
        let ended = offset_of!(CountedThread, ended);
        self.threads.word(index as usize, ended).load(Ordering::Acquire) != 0
    }

    /// An entry's thread.
    pub(super) fn thread(&self, index: u32) -> CountedThread {
        self.threads.read(index as usize)
    }

    /// An entry's counters, by slot.
    pub(super) fn counts(&self, index: u32) -> impl Iterator<Item = u64> {
        let counts = &self.counts.words()[index as usize * self.slots..][..self.slots];
        counts.iter().map(|it| it.load(Ordering::Relaxed))
    }

    /// Frees the entry of a thread that is gone.
    pub(super) fn free(&mut self, ebpf: &mut Ebpf, index: u32) -> Result<(), ProbeError> {
        let thread = self.thread(index);
        // Nothing is found here from now on.
        tables::remove_if(ebpf, "COUNTED_THREAD_OF", thread.tid(), index)?;
        self.threads.clear(index as usize);
        let counts = &self.counts.words()[index as usize * self.slots..][..self.slots];
        let clear = |it: &AtomicU64| it.store(0, Ordering::Relaxed);
        counts.iter().for_each(clear);
        self.entries.remove(index);
        tables::push(ebpf, "FREE_COUNTED_THREADS", [index])
    }
}
