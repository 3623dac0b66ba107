//! Decides which rows are hot, that is, significant enough for advice.

use std::collections::BTreeMap;

use super::groups::GroupKey;

/// A hot row has at least 1/20 (5 %) of the exits or of the non-idle time of its VM or vCPU.
const MIN_PART_OF_TOTAL: u64 = 20;

/// The non-idle time of a hot row is also at least 1/1000 of the elapsed time, that is, 1 ms per
/// second.
const MIN_PART_OF_ELAPSED: u64 = 1000;

/// The non-idle time of a hot row is also at least 1/100 (1 %) of the time of its VM's vCPUs, or of its
/// vCPU. The ticks and wakeups of a healthy guest cost less.
const MIN_PART_OF_VCPU_TIME: u64 = 100;

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    count: u64,
    cost_ns: u64,
}

/// Compares rows with the totals of their VM or vCPU.
///
/// Totals are per VM or vCPU, so that the exits of a large VM do not hide those of a small one.
#[derive(Debug, Default)]
pub(super) struct HotRowDetector {
    totals: BTreeMap<GroupKey, Totals>,
}

/// Returns the key of the totals that a row belongs to.
fn totals_key(key: &GroupKey) -> GroupKey {
    GroupKey { key: None, ..*key }
}

impl HotRowDetector {
    /// Adds a row to the totals. All rows must be added before [`HotRowDetector::is_hot`] is called.
    pub(super) fn add_row(&mut self, key: &GroupKey, count: u64, cost_ns: u64) {
        let totals = self.totals.entry(totals_key(key)).or_default();
        totals.count = totals.count.saturating_add(count);
        totals.cost_ns = totals.cost_ns.saturating_add(cost_ns);
    }

    /// Returns whether a row is hot. `elapsed_ns` is the time in which its exits were counted, and `vcpu_ns` that of its VM's
    /// vCPUs, or of its vCPU.
    pub(super) fn is_hot(
        &self,
        key: &GroupKey,
        (count, cost_ns): (u64, u64),
        elapsed_ns: u64,
        vcpu_ns: u64,
    ) -> bool {
        let totals = self
            .totals
            .get(&totals_key(key))
            .copied()
            .unwrap_or_default();
        let is_large =
            |part: u64, total: u64| part > 0 && part.saturating_mul(MIN_PART_OF_TOTAL) >= total;
        (is_large(count, totals.count) || is_large(cost_ns, totals.cost_ns))
            && cost_ns.saturating_mul(MIN_PART_OF_ELAPSED) >= elapsed_ns
            && cost_ns.saturating_mul(MIN_PART_OF_VCPU_TIME) >= vcpu_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_with_the_totals_of_their_vm() {
        let vm = |tgid| GroupKey {
            tgid: Some(tgid),
            ..GroupKey::default()
        };
        const ELAPSED_NS: u64 = 1_000_000_000;
        let mut detector = HotRowDetector::default();
        detector.add_row(&vm(1), 1000, 500_000_000);
        detector.add_row(&vm(2), 100, 10_000_000);
        let is_hot = |tgid, count, cost_ns| {
            detector.is_hot(&vm(tgid), (count, cost_ns), ELAPSED_NS, 100_000_000)
        };
        assert!(is_hot(1, 50, 1_000_000), "5 % of the exits");
        assert!(!is_hot(1, 49, 24_000_000), "less than 5 % of both");
        assert!(is_hot(1, 1, 25_000_000), "5 % of the time");
        assert!(is_hot(2, 5, 1_000_000), "5 % of its own VM's exits");
        assert!(!is_hot(2, 50, 999_999), "less than 1 ms per second");
        assert!(!is_hot(3, 0, 0));
        assert!(is_hot(3, u64::MAX, u64::MAX));
        let of_vcpus = |vcpu_ns| detector.is_hot(&vm(2), (50, 1_000_000), ELAPSED_NS, vcpu_ns);
        assert!(of_vcpus(100_000_000), "1 % of the time of its vCPUs");
        assert!(!of_vcpus(100_000_001), "less");
    }
}
