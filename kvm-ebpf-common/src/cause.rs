//! Causes under a row: its most frequent ones, in fixed room and with a known error.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal, El Abbadi 2005): a new cause that finds no room
//! takes the place, and the count, of the least frequent one, and remembers that count as the most by
//! which its own may be too high. A cause that makes up more than a [`CAUSES`]th of a row is always there.

use crate::Key;

/// Causes kept of a row.
pub const CAUSES_PER_ROW: usize = 16;

/// One cause.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// What it is; of the kind [`Key::kind`].
    pub key: Key,
    /// How many, at most. 0 for an unused place.
    pub count: u64,
    /// By how many that may be too high.
    pub error: u64,
    /// Time of those that were really seen: the count less the error.
    pub total_ns: u64,
}

/// A row's causes.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseTable {
    /// In no order.
    pub causes: [Cause; CAUSES_PER_ROW],
}

impl Default for CauseTable {
    fn default() -> Self {
        Self {
            causes: [Cause::default(); CAUSES_PER_ROW],
        }
    }
}

impl CauseTable {
    /// Adds a span with its cause.
    #[inline(always)]
    pub fn add(&mut self, key: Key, total_ns: u64) {
        // The count and the place of the one seen least, in one number: of a place alone, the verifier would go
        // through every possible one.
        let mut least = u64::MAX;
        let mut index = 0;
        while index < CAUSES_PER_ROW {
            let cause = &mut self.causes[index];
            if cause.count != 0
                && cause.key.code == key.code
                && cause.key.subcode == key.subcode
                && cause.key.kind == key.kind
            {
                cause.count += 1;
                cause.total_ns += total_ns;
                return;
            }
            let packed = cause.count * CAUSES_PER_ROW as u64 + index as u64;
            if packed < least {
                least = packed;
            }
            index += 1;
        }
        let least_count = least / CAUSES_PER_ROW as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below CAUSES")]
        let place = (least % CAUSES_PER_ROW as u64) as usize;
        self.causes[place] = Cause {
            key,
            count: least_count + 1,
            error: least_count,
            total_ns,
        };
    }

    /// How often a cause that is not in the table may have been seen.
    #[must_use]
    pub fn max_unlisted_count(&self) -> u64 {
        self.causes.iter().map(|it| it.count).min().unwrap_or(0)
    }
}

const _: () = assert!(size_of::<Cause>() == 40);
const _: () = assert!(size_of::<CauseTable>() == CAUSES_PER_ROW * 40);

crate::pod::pod!(Cause, CauseTable);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: u64) -> Key {
        Key {
            code,
            subcode: 0,
            kind: 0,
        }
    }

    #[test]
    fn few_causes_are_exact() {
        let mut table = CauseTable::default();
        for code in 0..CAUSES_PER_ROW as u64 {
            for _ in 0..=code {
                table.add(key(code), 10);
            }
        }
        for code in 0..CAUSES_PER_ROW as u64 {
            let cause = table.causes.iter().find(|it| it.key == key(code));
            assert_eq!(
                cause,
                Some(&Cause {
                    key: key(code),
                    count: code + 1,
                    error: 0,
                    total_ns: 10 * (code + 1)
                })
            );
        }
    }

    #[test]
    fn a_frequent_cause_survives_many_others_and_the_error_is_known() {
        let mut table = CauseTable::default();
        let mut all = 0;
        for round in 0..10_000u64 {
            table.add(key(round + 1000), 1);
            all += 1;
            if round % 4 == 0 {
                table.add(key(7), 1);
                all += 1;
            }
        }
        let true_count = 2500;
        let cause = table
            .causes
            .iter()
            .find(|it| it.key == key(7))
            .expect("it is a fifth of all");
        assert!(cause.count >= true_count && cause.count - cause.error <= true_count);
        assert!(cause.error <= all / CAUSES_PER_ROW as u64);
        assert!(table.max_unlisted_count() <= all / CAUSES_PER_ROW as u64);
    }
}
