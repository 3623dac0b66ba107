//! Which entries of a table of threads are in use, as the eBPF programs' notices say it.

use std::collections::BTreeSet;

/// The entries in use.
#[derive(Debug, Default)]
pub(super) struct UsedEntries {
    used: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    /// Where [`UsedEntries::some_living`] goes on.
    next_batch_start: u32,
}

impl UsedEntries {
    /// Searches a whole table, after notices were lost: `read` says whether an entry is in use, and whether its thread has
    /// ended.
    ///
    /// Returns those that were not known to be in use.
    pub(super) fn search(&mut self, len: usize, read: impl Fn(u32) -> (bool, bool)) -> Vec<u32> {
        let mut new = Vec::new();
        for index in 0..u32::try_from(len).unwrap_or(u32::MAX) {
            let (is_used, has_ended) = read(index);
            if is_used {
                if self.add(index) {
                    new.push(index);
                }
                if has_ended {
                    self.mark_ended(index);
                }
            }
        }
        new
    }

    /// A thread has an entry. Returns whether that was not known.
    pub(super) fn add(&mut self, index: u32) -> bool {
        self.used.insert(index)
    }

    /// Some of the entries whose threads are not known to have ended; others with each call.
    pub(super) fn next_alive_batch(&mut self) -> Vec<u32> {
        const SOME: usize = 32;
        let (next, used) = (self.next_batch_start, &self.used);
        let some: Vec<_> = used.range(next..).take(SOME).copied().collect();
        self.next_batch_start = match some.last() {
            Some(last) if some.len() == SOME => last + 1,
            _ => 0,
        };
        let ended = &self.ended;
        some.into_iter().filter(|it| !ended.contains(it)).collect()
    }

    /// The thread of an entry has ended.
    pub(super) fn mark_ended(&mut self, index: u32) {
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
    fn all_living_threads_are_looked_at_in_turn() {
        let mut entries = UsedEntries::default();
        for index in 0..100 {
            entries.add(index);
        }
        entries.mark_ended(7);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(entries.next_alive_batch());
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq((0..100).filter(|it| *it != 7)));
        assert_eq!(entries.next_alive_batch()[0], 0, "from the first again");
    }

    #[test]
    fn a_search_finds_what_is_in_use_and_what_has_ended() {
        let mut entries = UsedEntries::default();
        entries.add(0);
        assert_eq!(entries.search(4, |it| (it < 2 || it == 3, it == 3)), [1, 3]);
        assert_eq!(entries.used().collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(entries.ended().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn an_entry_is_in_use_until_it_is_freed() {
        let mut entries = UsedEntries::default();
        entries.mark_ended(3);
        assert_eq!(entries.ended().count(), 0, "nobody has it");
        entries.add(3);
        entries.add(1);
        entries.mark_ended(3);
        assert_eq!(entries.used().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(entries.ended().collect::<Vec<_>>(), [3]);
        entries.remove(3);
        assert_eq!(entries.used().collect::<Vec<_>>(), [1]);
        assert_eq!(entries.ended().count(), 0);
    }
}
