//! Causes of exits, merged from tables that each hold the most frequent ones only.

use std::collections::BTreeMap;

use kvm_ebpf_common::{CauseTable, Key};

/// Causes kept at most where many tables come together.
const MOST: usize = 256;

/// How often one cause was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CauseCount {
    /// At least so often.
    pub at_least: u64,
    /// At most so often.
    pub at_most: u64,
    /// Time of those that `at_least` counts.
    pub total_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct EventCounter {
    count: CauseCount,
    /// The `unseen` of the tables that it is in.
    covered: u64,
}

/// Causes, each with bounds of how often it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes {
    tallies: BTreeMap<Key, EventCounter>,
    /// How often a cause that is in none of the tables may have been seen.
    unseen: u64,
}

impl From<&CauseTable> for Causes {
    fn from(table: &CauseTable) -> Self {
        let unseen = table.unseen();
        let seen = table.causes.iter().filter(|cause| cause.count > 0);
        let tally = |cause: &kvm_ebpf_common::Cause| EventCounter {
            count: CauseCount {
                at_least: cause.count - cause.error.min(cause.count),
                at_most: cause.count,
                total_ns: cause.total_ns,
            },
            covered: unseen,
        };
        Self {
            tallies: seen.map(|cause| (cause.key, tally(cause))).collect(),
            unseen,
        }
    }
}

impl Causes {
    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (key, from) in &other.tallies {
            let to = self.tallies.entry(*key).or_default();
            to.count.at_least += from.count.at_least;
            to.count.at_most += from.count.at_most;
            to.count.total_ns = to.count.total_ns.saturating_add(from.count.total_ns);
            to.covered += from.covered;
        }
        self.unseen += other.unseen;
        if self.tallies.len() > MOST {
            self.keep_most_frequent(MOST / 2);
        }
    }

    /// How many causes are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tallies.len()
    }

    /// Forgets all but so many of the most frequent causes; what is forgotten is unseen from here on.
    pub fn keep_most_frequent(&mut self, most: usize) {
        let Some(last) = self.tallies.len().checked_sub(most + 1) else {
            return;
        };
        let mut bounds: Vec<_> = self.tallies.values().map(|it| self.bound(it)).collect();
        bounds.sort_unstable();
        let highest = bounds[last];
        let before = self.unseen;
        self.tallies
            .retain(|_, tally| tally.count.at_most + (before - tally.covered) > highest);
        for tally in self.tallies.values_mut() {
            tally.covered += highest.saturating_sub(before);
        }
        self.unseen = before.max(highest);
    }

    fn bound(&self, tally: &EventCounter) -> u64 {
        tally.count.at_most + (self.unseen - tally.covered)
    }

    /// All of them, the most frequent first.
    #[must_use]
    pub fn ranked(&self) -> Vec<(Key, CauseCount)> {
        let mut ranked: Vec<_> = self
            .tallies
            .iter()
            .map(|(key, tally)| {
                let at_most = self.bound(tally);
                (
                    *key,
                    CauseCount {
                        at_most,
                        ..tally.count
                    },
                )
            })
            .collect();
        ranked.sort_by(|a, b| {
            (b.1.at_most, b.1.at_least, a.0).cmp(&(a.1.at_most, a.1.at_least, b.0))
        });
        ranked
    }

    /// How often a cause that is not among them may have been seen.
    #[must_use]
    pub fn unseen(&self) -> u64 {
        self.unseen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(code: u64) -> Key {
        Key {
            code,
            ..Key::default()
        }
    }

    proptest! {
        /// Whatever is seen where, the bounds hold for every cause.
        #[test]
        fn the_bounds_hold(streams in prop::collection::vec(prop::collection::vec(0u64..80, 0..400), 1..40)) {
            let mut exact: HashMap<u64, u64> = HashMap::new();
            let mut causes = Causes::default();
            for stream in &streams {
                let mut table = CauseTable::default();
                for &code in stream {
                    // Skewed, so that some are frequent.
                    let code = if code < 40 { code / 10 } else { code * streams.len() as u64 };
                    table.add(key(code), 1);
                    *exact.entry(code).or_default() += 1;
                }
                causes.merge(&Causes::from(&table));
            }
            let ranked = causes.ranked();
            for (code, count) in exact {
                match ranked.iter().find(|it| it.0 == key(code)) {
                    Some((_, seen)) => prop_assert!((seen.at_least..=seen.at_most).contains(&count), "{code}: {count}, {seen:?}"),
                    None => prop_assert!(count <= causes.unseen(), "{code}: {count} > {}", causes.unseen()),
                }
            }
        }
    }
}
