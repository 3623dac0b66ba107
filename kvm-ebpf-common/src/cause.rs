//! The most frequent causes of a row, in a table of fixed size and with a known error.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal, El Abbadi 2005). If the table is full, a new
//! cause replaces the least frequent one and inherits its count. The inherited count is stored as the
//! maximum error. A cause with more than 1/[`CAUSES_PER_ROW`] of the events of a row is always in the
//! table.

use crate::Key;

/// Number of causes stored for a row.
pub const CAUSES_PER_ROW: usize = 16;

/// One cause of the exits of a row, for example an I/O port.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// The cause. [`Key::kind`] is its kind.
    pub key: Key,
    /// Upper bound of the number of occurrences. 0 if the entry is unused.
    pub count: u64,
    /// Maximum by which `count` may be too high.
    pub error: u64,
    /// Total time of the `count - error` occurrences since the cause entered the table.
    pub total_ns: u64,
}

/// The causes of a row.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseTable {
    /// Entries, in no particular order.
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
    /// Adds one occurrence of a cause.
    #[inline(always)]
    pub fn add(&mut self, key: Key, total_ns: u64) {
        // The least count and its index are packed in one number. With a separate index, the
        // verifier would check every possible value of it.
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
        #[expect(clippy::cast_possible_truncation, reason = "below CAUSES_PER_ROW")]
        let replaced = (least % CAUSES_PER_ROW as u64) as usize;
        self.causes[replaced] = Cause {
            key,
            count: least_count + 1,
            error: least_count,
            total_ns,
        };
    }

    /// Returns the maximum number of occurrences of any cause that is not in the table.
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
    fn a_frequent_cause_stays_in_the_table_within_its_error() {
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
            .expect("one fifth of all events have this cause");
        assert!(cause.count >= true_count && cause.count - cause.error <= true_count);
        assert!(cause.error <= all / CAUSES_PER_ROW as u64);
        assert!(table.max_unlisted_count() <= all / CAUSES_PER_ROW as u64);
    }
}
