//! Tracks which entries of a table of threads are in use, from the notifications of the eBPF programs.

use std::collections::BTreeSet;

/// Indices of the entries in use.
#[derive(Debug, Default)]
pub(super) struct UsedEntries {
    used: BTreeSet<u32>,
    ended: BTreeSet<u32>,
    /// The index at which [`UsedEntries::next_alive_batch`] continues.
    next_batch_start: u32,
}

impl UsedEntries {
    /// Searches the whole table after notifications were lost. `read` returns whether an entry is in use, and whether its
    /// thread has ended.
    ///
    /// Returns the entries that were not known to be in use.
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

    /// Adds the entry of a new thread. Returns whether it was not known.
    pub(super) fn add(&mut self, index: u32) -> bool {
        self.used.insert(index)
    }

    /// Returns the next batch of entries with threads that are not known to have ended. Consecutive calls cover all entries.
    pub(super) fn next_alive_batch(&mut self) -> Vec<u32> {
        const BATCH: usize = 32;
        let (next, used) = (self.next_batch_start, &self.used);
        let batch: Vec<_> = used.range(next..).take(BATCH).copied().collect();
        self.next_batch_start = match batch.last() {
            Some(last) if batch.len() == BATCH => last + 1,
            _ => 0,
        };
        let ended = &self.ended;
        batch
            .into_iter()
            .filter(|index| !ended.contains(index))
            .collect()
    }

    /// Marks the entry of a thread that has ended.
    pub(super) fn mark_ended(&mut self, index: u32) {
        if self.used.contains(&index) {
            self.ended.insert(index);
        }
    }

    /// Removes an entry that is free again.
    pub(super) fn remove(&mut self, index: u32) {
        self.used.remove(&index);
        self.ended.remove(&index);
    }

    /// Returns all entries in use, including those of ended threads.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        self.used.iter().copied()
    }

    /// Returns the entries of threads that have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = u32> {
        self.ended.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_all_threads_that_have_not_ended() {
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
        assert!(seen.into_iter().eq((0..100).filter(|index| *index != 7)));
        assert_eq!(
            entries.next_alive_batch()[0],
            0,
            "starts again at the first entry"
        );
    }

    #[test]
    fn a_search_finds_used_and_ended_entries() {
        let mut entries = UsedEntries::default();
        entries.add(0);
        assert_eq!(
            entries.search(4, |index| (index < 2 || index == 3, index == 3)),
            [1, 3]
        );
        assert_eq!(entries.used().collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(entries.ended().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn an_entry_is_in_use_until_it_is_freed() {
        let mut entries = UsedEntries::default();
        entries.mark_ended(3);
        assert_eq!(entries.ended().count(), 0, "the entry is not in use");
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
