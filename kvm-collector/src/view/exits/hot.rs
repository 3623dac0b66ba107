//! Which rows are worth advice.

use std::collections::BTreeMap;

use super::groups::GroupKey;

/// Of its VM's or vCPU's exits, or of the time that they were not idle, a row that is worth advice has so much.
const PART: u64 = 20; // a 20th: 5 %

/// And of the time that was watched, so much of one CPU; less is not worth anybody's time.
const OF_ELAPSED: u64 = 1000; // a 1000th: 1 ms each second

#[derive(Debug, Clone, Copy, Default)]
struct Whole {
    count: u64,
    busy_ns: u64,
}

/// What the exits of each VM and vCPU are, all together: a large VM's exits must not hide a small one's.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    elapsed_ns: u64,
    wholes: BTreeMap<GroupKey, Whole>,
}

fn vcpu_id(key: &GroupKey) -> GroupKey {
    GroupKey { key: None, ..*key }
}

impl Wholes {
    pub(super) fn new(elapsed_ns: u64) -> Self {
        Self {
            elapsed_ns,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, key: &GroupKey, count: u64, busy_ns: u64) {
        let whole = self.wholes.entry(vcpu_id(key)).or_default();
        whole.count = whole.count.saturating_add(count);
        whole.busy_ns = whole.busy_ns.saturating_add(busy_ns);
    }

    pub(super) fn is_hot(&self, key: &GroupKey, count: u64, busy_ns: u64) -> bool {
        let whole = self.wholes.get(&vcpu_id(key)).copied().unwrap_or_default();
        let large = |part: u64, whole: u64| part > 0 && part.saturating_mul(PART) >= whole;
        (large(count, whole.count) || large(busy_ns, whole.busy_ns))
            && busy_ns.saturating_mul(OF_ELAPSED) >= self.elapsed_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_is_what_matters_to_its_vm() {
        let vm = |tgid| GroupKey {
            tgid: Some(tgid),
            ..GroupKey::default()
        };
        let mut wholes = Wholes::new(1_000_000_000);
        wholes.add(&vm(1), 1000, 500_000_000);
        wholes.add(&vm(2), 100, 10_000_000);
        let hot = |tgid, count, busy_ns| wholes.is_hot(&vm(tgid), count, busy_ns);
        assert!(hot(1, 50, 1_000_000), "5 % of the exits");
        assert!(!hot(1, 49, 24_000_000), "5 % of nothing");
        assert!(hot(1, 1, 25_000_000), "5 % of the time");
        assert!(hot(2, 5, 1_000_000), "another VM's exits do not count");
        assert!(!hot(2, 50, 999_999), "less than 1 ms a second");
        assert!(!hot(3, 0, 0));
        assert!(hot(3, u64::MAX, u64::MAX));
    }
}
