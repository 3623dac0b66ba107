//! Causes of exits, merged from tables that each hold only the most frequent causes, with bounds of
//! their counts.

use std::collections::BTreeMap;

use kvm_ebpf_common::{CauseTable, Key};

/// Maximum number of causes after a merge.
const MAX_MERGED_CAUSES: usize = 256;

/// Bounds of how often one cause occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CauseCount {
    /// Lower bound.
    pub at_least: u64,
    /// Upper bound.
    pub at_most: u64,
    /// Total duration of the occurrences that `at_least` counts.
    pub total_ns: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct CauseCounter {
    count: CauseCount,
    /// Sum of [`Causes::unseen`] of the merged tables that contain this cause. The upper bound needs
    /// that of the other tables only.
    own_unseen: u64,
}

/// Causes, each with bounds of how often it occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes {
    counters: BTreeMap<Key, CauseCounter>,
    /// Upper bound for a cause that is in none of the merged tables.
    unseen: u64,
}

impl From<&CauseTable> for Causes {
    fn from(table: &CauseTable) -> Self {
        let unseen = table.max_unlisted_count();
        let seen = table.causes.iter().filter(|cause| cause.count > 0);
        let counter = |cause: &kvm_ebpf_common::Cause| CauseCounter {
            count: CauseCount {
                at_least: cause.count - cause.error.min(cause.count),
                at_most: cause.count,
                total_ns: cause.total_ns,
            },
            own_unseen: unseen,
        };
        Self {
            counters: seen.map(|cause| (cause.key, counter(cause))).collect(),
            unseen,
        }
    }
}

impl Causes {
    /// Adds the causes of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (key, from) in &other.counters {
            let to = self.counters.entry(*key).or_default();
            to.count.at_least += from.count.at_least;
            to.count.at_most += from.count.at_most;
            to.count.total_ns = to.count.total_ns.saturating_add(from.count.total_ns);
            to.own_unseen += from.own_unseen;
        }
        self.unseen += other.unseen;
        if self.counters.len() > MAX_MERGED_CAUSES {
            self.retain_most_frequent(MAX_MERGED_CAUSES / 2);
        }
    }

    /// Returns the causes with other kinds of events, which `kind` returns.
    #[must_use]
    pub fn with_kinds(&self, kind: impl Fn(u32) -> u32) -> Self {
        let with_kind = |key: &Key| Key {
            kind: kind(key.kind),
            ..*key
        };
        let counters = self.counters.iter();
        Self {
            counters: counters.map(|(key, it)| (with_kind(key), *it)).collect(),
            unseen: self.unseen,
        }
    }

    /// Returns the number of causes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counters.len()
    }

    /// Removes all but the `most` most frequent causes, and raises [`Causes::unseen`] to cover the
    /// removed ones.
    pub fn retain_most_frequent(&mut self, most: usize) {
        let Some(last) = self.counters.len().checked_sub(most + 1) else {
            return;
        };
        let mut bounds: Vec<_> = self
            .counters
            .values()
            .map(|it| self.upper_bound(it))
            .collect();
        bounds.sort_unstable();
        let highest = bounds[last];
        let previous_unseen = self.unseen;
        self.counters.retain(|_, counter| {
            counter.count.at_most + (previous_unseen - counter.own_unseen) > highest
        });
        for counter in self.counters.values_mut() {
            counter.own_unseen += highest.saturating_sub(previous_unseen);
        }
        self.unseen = previous_unseen.max(highest);
    }

    fn upper_bound(&self, counter: &CauseCounter) -> u64 {
        counter.count.at_most + (self.unseen - counter.own_unseen)
    }

    /// Returns all causes, the most frequent first.
    #[must_use]
    pub fn ranked(&self) -> Vec<(Key, CauseCount)> {
        let mut ranked: Vec<_> = self
            .counters
            .iter()
            .map(|(key, counter)| {
                let at_most = self.upper_bound(counter);
                (
                    *key,
                    CauseCount {
                        at_most,
                        ..counter.count
                    },
                )
            })
            .collect();
        ranked.sort_by(|a, b| {
            (b.1.at_most, b.1.at_least, a.0).cmp(&(a.1.at_most, a.1.at_least, b.0))
        });
        ranked
    }

    /// Returns the upper bound for every cause that is not listed.
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
        /// The bounds hold for every cause, however the occurrences are spread over the tables.
        #[test]
        fn bounds_contain_the_exact_counts(streams in prop::collection::vec(prop::collection::vec(0u64..80, 0..400), 1..40)) {
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
