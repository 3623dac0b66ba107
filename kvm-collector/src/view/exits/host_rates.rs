//! Rates of rows about several hosts: the sums of the hosts' rates, as in `stat`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    change::{ns_per_s, rate},
    groups::{GroupKey, GroupStats},
};

/// Exits and their time per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct RowRates {
    /// Exits per second.
    pub rate_per_s: f64,
    /// Time from exit to next entry, per second.
    pub total_ns_per_s: u64,
    /// Non-idle part of `total_ns_per_s`.
    pub cost_ns_per_s: u64,
}

impl RowRates {
    /// Computes the rates in a time.
    pub(super) fn new(count: u64, total_ns: u64, cost_ns: u64, elapsed_ns: u64) -> Self {
        Self {
            rate_per_s: rate(count, elapsed_ns),
            total_ns_per_s: ns_per_s(total_ns, elapsed_ns),
            cost_ns_per_s: ns_per_s(cost_ns, elapsed_ns),
        }
    }

    /// Returns the sums of the rates.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            rate_per_s: self.rate_per_s + other.rate_per_s,
            total_ns_per_s: self.total_ns_per_s.saturating_add(other.total_ns_per_s),
            cost_ns_per_s: self.cost_ns_per_s.saturating_add(other.cost_ns_per_s),
        }
    }
}

/// What each host contributes to the rows that are about all hosts.
#[derive(Debug, Default)]
pub(super) struct HostShares(BTreeMap<(GroupKey, u32), Share>);

#[derive(Debug, Default)]
struct Share {
    count: u64,
    total_ns: u64,
    cost_ns: u64,
}

impl HostShares {
    /// Adds exits of a host to a row.
    pub(super) fn add(&mut self, key: GroupKey, host: u32, group: &GroupStats) {
        let share = self.0.entry((key, host)).or_default();
        let totals = &group.totals;
        let cost_ns = totals.total_ns.saturating_sub(group.idle_ns);
        share.count = share.count.saturating_add(totals.count);
        share.total_ns = share.total_ns.saturating_add(totals.total_ns);
        share.cost_ns = share.cost_ns.saturating_add(cost_ns);
    }

    /// Returns the number of shares.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the sum of the rates of a row. `elapsed_ns` returns how long a host was recorded.
    pub(super) fn rates(&self, key: &GroupKey, elapsed_ns: impl Fn(u32) -> u64) -> RowRates {
        let shares = self.0.range((*key, 0)..=(*key, u32::MAX));
        let rates = shares.map(|((_, host), share)| {
            RowRates::new(
                share.count,
                share.total_ns,
                share.cost_ns,
                elapsed_ns(*host),
            )
        });
        rates.fold(RowRates::default(), RowRates::plus)
    }
}
