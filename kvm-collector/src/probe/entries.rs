//! Which entries of a table of threads are in use, as the eBPF programs' notices say it.

use std::collections::BTreeSet;

/// The entries in use.
#[derive(Debug, Default)]
pub(super) struct Entries {
    used: BTreeSet<u32>,
    ended: BTreeSet<u32>,
}

impl Entries {
    /// A thread has an entry.
    pub(super) fn add(&mut self, index: u32) {
        self.used.insert(index);
    }

    /// The thread of an entry has ended.
    pub(super) fn end(&mut self, index: u32) {
        if self.used.contains(&index) {
            self.ended.insert(index);
        }
    }

    /// The entry is free.
    pub(super) fn remove(&mut self, index: u32) {
        self.used.remove(&index);
        self.ended.remove(&index);
    }

    /// All entries in use, those of ended threads included.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        self.used.iter().copied()
    }

    /// The entries of threads that have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = u32> {
        self.ended.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_in_use_until_it_is_freed() {
        let mut entries = Entries::default();
        entries.end(3);
        assert_eq!(entries.ended().count(), 0, "nobody has it");
        entries.add(3);
        entries.add(1);
        entries.end(3);
        assert_eq!(entries.used().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(entries.ended().collect::<Vec<_>>(), [3]);
        entries.remove(3);
        assert_eq!(entries.used().collect::<Vec<_>>(), [1]);
        assert_eq!(entries.ended().count(), 0);
    }
}
