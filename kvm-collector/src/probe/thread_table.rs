//! A table of threads, and which of its entries are in use.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::Ebpf;
use kvm_ebpf_common::{CountedThread, ThreadNotification, VcpuThread, tgid_of, tid_of};
use zerocopy::{FromBytes, IntoBytes};

use super::{ProbeError, mapped::MappedArray, used_entries::UsedEntries};

/// An entry of a table of threads.
pub(super) trait ThreadEntry: FromBytes + IntoBytes {
    /// Offset of the word with the thread of the entry (`tgid << 32 | tid`). The word is 0 if the entry is free.
    const OWNER: usize;
    /// Offset of the word that is not 0 if the thread has ended.
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

/// A table of threads, and the state of its entries.
#[derive(Debug)]
pub(super) struct ThreadTable<T> {
    threads: MappedArray<T>,
    pub(super) entries: UsedEntries,
}

impl<T: ThreadEntry> ThreadTable<T> {
    /// Opens the table with this name.
    pub(super) fn open(ebpf: &Ebpf, name: &'static str) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: MappedArray::open(ebpf, name)?,
            entries: UsedEntries::default(),
        })
    }

    /// Returns a word of an entry, by its offset in bytes.
    pub(super) fn word(&self, index: u32, offset: usize) -> &AtomicU64 {
        self.threads.word(index as usize, offset)
    }

    /// Reads an entry.
    pub(super) fn thread(&self, index: u32) -> T {
        self.threads.read(index as usize)
    }

    /// Adds the entry of a new thread. Returns whether the entry belongs to this thread. If notifications were lost, the
    /// entry may have been found by a search and freed, so it may be free or belong to another thread by now.
    pub(super) fn add(&mut self, notification: &ThreadNotification) -> bool {
        let index = notification.index;
        let owner = u64::from(notification.tgid) << 32 | u64::from(notification.tid);
        let belongs = self.contains(index) && self.owner(index) == owner;
        if belongs {
            self.entries.add(index);
        }
        belongs
    }

    /// Marks the entry of a thread that has ended, unless the entry belongs to another thread by now.
    pub(super) fn mark_ended(&mut self, notification: &ThreadNotification) {
        if self.contains(notification.index) && self.has_ended(notification.index) {
            self.entries.mark_ended(notification.index);
        }
    }

    /// Searches the whole table after notifications were lost. Returns notifications for the entries that were not known.
    pub(super) fn search(&mut self, kind: u32) -> Vec<ThreadNotification> {
        let mut entries = std::mem::take(&mut self.entries);
        let found = entries.search(self.threads.len(), |index| {
            (self.owner(index) != 0, self.has_ended(index))
        });
        self.entries = entries;
        let notification = |index| ThreadNotification {
            tgid: tgid_of(self.owner(index)),
            tid: tid_of(self.owner(index)),
            index,
            kind,
            ..ThreadNotification::default()
        };
        found.into_iter().map(notification).collect()
    }

    /// Checks the next batch of threads that are not known to have ended, and marks those that have. `has_ended` returns
    /// whether a thread (process id, thread id) has ended.
    pub(super) fn mark_ended_batch(&mut self, has_ended: impl Fn(u32, u32) -> bool) {
        for index in self.entries.next_alive_batch() {
            let owner = self.owner(index);
            if has_ended(tgid_of(owner), tid_of(owner)) {
                self.entries.mark_ended(index);
            }
        }
    }

    /// Clears an entry that no program uses any more.
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
