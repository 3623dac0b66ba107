//! Event counts since the start, read at one point in time. Reports compute differences and rates
//! from two snapshots.

use std::collections::HashMap;

use super::{Loss, VmName};
use crate::tracefs::EventName;

/// How often one event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// The event.
    pub event: EventName,
    /// Number of occurrences, including lost ones.
    pub count: u64,
    /// Occurrences without a record, because the ring was full.
    pub lost: u64,
}

/// How often each event happened in one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmCounts {
    /// The VMM, by its [`process_id`](super::process_id).
    pub tgid: u32,
    /// The VM's name, or a name made from its process.
    pub name: VmName,
    /// Number of occurrences of each event, in the order of [`CountsSnapshot::events`].
    pub counts: Vec<u64>,
}

/// Event counts since the start, at one point in time; or the difference of two such snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountsSnapshot {
    /// When the counts were read, in ns of `CLOCK_MONOTONIC`. In a difference, the time between the
    /// snapshots.
    pub time_ns: u64,
    /// Each selected event, sorted by name.
    pub events: Vec<EventCount>,
    /// Each VM that had an event; empty unless counts per VM are requested.
    pub vms: Vec<VmCounts>,
    /// Lost events.
    pub loss: Loss,
}

impl CountsSnapshot {
    /// Removes the counts of processes that are no VMs, by TGID. Their events stay in the totals. TGID 0 stands for merged VMs.
    #[must_use]
    pub fn with_vms_only(mut self, is_vm: impl Fn(u32) -> bool) -> Self {
        self.vms.retain(|vm| vm.tgid == 0 || is_vm(vm.tgid));
        self
    }

    /// Returns the difference to `earlier`, a snapshot of the same events.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let events = self
            .events
            .iter()
            .zip(&earlier.events)
            .map(|(now, then)| EventCount {
                event: now.event.clone(),
                count: now.count.saturating_sub(then.count),
                lost: now.lost.saturating_sub(then.lost),
            })
            .collect();
        let before: HashMap<u32, &VmCounts> = earlier.vms.iter().map(|it| (it.tgid, it)).collect();
        let vms = self
            .vms
            .iter()
            .map(|now| {
                let then = before.get(&now.tgid);
                let counts = now.counts.iter().enumerate().map(|(index, count)| {
                    let then = then.and_then(|then| then.counts.get(index)).copied();
                    count.saturating_sub(then.unwrap_or(0))
                });
                VmCounts {
                    tgid: now.tgid,
                    name: now.name.clone(),
                    counts: counts.collect(),
                }
            })
            .collect();
        Self {
            time_ns: self.time_ns.saturating_sub(earlier.time_ns),
            events,
            vms,
            loss: self.loss.since(&earlier.loss),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(time_ns: u64, count: u64, vms: &[(u32, u64)]) -> CountsSnapshot {
        CountsSnapshot {
            time_ns,
            events: vec![EventCount {
                event: EventName {
                    system: "kvm".into(),
                    name: "kvm_exit".into(),
                },
                count,
                lost: 0,
            }],
            vms: vms
                .iter()
                .map(|&(tgid, count)| VmCounts {
                    tgid,
                    name: VmName::default(),
                    counts: vec![count],
                })
                .collect(),
            loss: Loss::default(),
        }
    }

    #[test]
    fn difference_includes_vms_that_started_in_between() {
        let earlier = snapshot(100, 10, &[(1, 10)]);
        let later = snapshot(400, 35, &[(1, 15), (2, 20)]);
        assert_eq!(later.since(&earlier), snapshot(300, 25, &[(1, 5), (2, 20)]));
    }
}
