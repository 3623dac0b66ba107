//! Which entries of a table of threads are in use, as the eBPF programs' notices say it.

use std::collections::BTreeSet;

/// The entries in use.
#[derive(Debug, Default)]
pub(super) struct Entries {
    used: BTreeSet<u32>,
    ended: BTreeSet<u32>,
}

impl Entries {
    /// Searches a whole table, after notices were lost: `read` says whether an entry is in use, and whether its thread has
    /// ended.
    pub(super) fn search(&mut self, len: usize, read: impl Fn(u32) -> (bool, bool)) {
        for index in 0..u32::try_from(len).unwrap_or(u32::MAX) {
            let (is_used, has_ended) = read(index);
            if is_used {
                self.add(index);
                if has_ended {
                    self.end(index);
                }
            }
        }
    }

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
    fn a_search_finds_what_is_in_use_and_what_has_ended() {
        let mut entries = Entries::default();
        entries.add(0);
        entries.search(4, |index| (index % 2 == 1, index == 3));
        assert_eq!(entries.used().collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(entries.ended().collect::<Vec<_>>(), [3]);
    }

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
