//! A table of threads: which of its entries are in use, and whose each is.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::Ebpf;
use kvm_ebpf_common::{CountedThread, ThreadNotification, VcpuThread, tgid_of, tid_of};
use zerocopy::{FromBytes, IntoBytes};

use super::{ProbeError, entries::UsedEntries, mapped::MappedArray};

/// An entry of a table of threads.
pub(super) trait ThreadEntry: FromBytes + IntoBytes {
    /// The offset of the word that says whose the entry is (`tgid << 32 | tid`), 0 for one that is free.
    const OWNER: usize;
    /// The offset of the word that is not 0 when the thread has ended.
    const ENDED: usize;
}

impl ThreadEntry for VcpuThread {
    const OWNER: usize = offset_of!(Self, owner);
    const ENDED: usize = offset_of!(Self, ended);
}

impl ThreadEntry for CountedThread {
    const OWNER: usize = offset_of!(Self, owner);
    const ENDED: usize = offset_of!(Self, ended);
}

/// A table of threads, with what is known of its entries.
#[derive(Debug)]
pub(super) struct ThreadTable<T> {
    threads: MappedArray<T>,
    pub(super) entries: UsedEntries,
}

impl<T: ThreadEntry> ThreadTable<T> {
    /// The table of a name.
    pub(super) fn of(ebpf: &Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: MappedArray::open(ebpf, name)?,
            entries: UsedEntries::default(),
        })
    }

    /// A word of an entry, by its offset in bytes.
    pub(super) fn word(&self, index: u32, offset: usize) -> &AtomicU64 {
        self.threads.word(index as usize, offset)
    }

    /// An entry as it is now.
    pub(super) fn thread(&self, index: u32) -> T {
        self.threads.read(index as usize)
    }

    /// Receives the notice of a new thread. Returns whether the entry is this thread's: one that was found and freed after
    /// notices were lost may be free, or another thread's by now.
    pub(super) fn begin(&mut self, notice: &ThreadNotification) -> bool {
        let index = notice.index;
        let owner = u64::from(notice.tgid) << 32 | u64::from(notice.tid);
        let is_of = self.contains(index) && self.owner(index) == owner;
        if is_of {
            self.entries.add(index);
        }
        is_of
    }

    /// Receives the notice that a thread has ended; as [`ThreadTable::begin`].
    pub(super) fn end(&mut self, notice: &ThreadNotification) {
        if self.contains(notice.index) && self.has_ended(notice.index) {
            self.entries.mark_ended(notice.index);
        }
    }

    /// Searches the whole table, after notices were lost. Returns notices of the entries that were not known.
    pub(super) fn search(&mut self, kind: u32) -> Vec<ThreadNotification> {
        let mut entries = std::mem::take(&mut self.entries);
        let found = entries.search(self.threads.len(), |index| {
            (self.owner(index) != 0, self.has_ended(index))
        });
        self.entries = entries;
        let notice = |index| ThreadNotification {
            tgid: tgid_of(self.owner(index)),
            tid: tid_of(self.owner(index)),
            index,
            kind,
            ..ThreadNotification::default()
        };
        found.into_iter().map(notice).collect()
    }

    /// Looks at some threads that are not known to have ended, others with each call. `is_gone` says whether a thread of a
    /// process is.
    pub(super) fn end_gone(&mut self, is_gone: impl Fn(u32, u32) -> bool) {
        for index in self.entries.next_alive_batch() {
            let owner = self.owner(index);
            if is_gone(tgid_of(owner), tid_of(owner)) {
                self.entries.mark_ended(index);
            }
        }
    }

    /// Zeroes an entry that the programs do not use any more.
    pub(super) fn clear(&mut self, index: u32) {
        self.threads.clear(index as usize);
        self.entries.remove(index);
    }

    fn contains(&self, index: u32) -> bool {
        (index as usize) < self.threads.len()
    }

    fn owner(&self, index: u32) -> u64 {
        self.word(index, T::OWNER).load(Ordering::Acquire)
    }

    fn has_ended(&self, index: u32) -> bool {
        self.word(index, T::ENDED).load(Ordering::Acquire) != 0
    }
}
