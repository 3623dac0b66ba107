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

/// How often each event happened in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmCounts {
    /// The VMM, by its [`process_id`](super::process_id).
    pub tgid: u32,
    /// The VM's name, or a name made from its process.
    pub name: VmName,
    /// Whether the process is known to be a VM. Its events are only in the totals as long as it is not.
    pub is_vm: bool,
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
    /// Each process that had an event; `None` unless counts per VM are requested.
    pub vms: Option<Vec<VmCounts>>,
    /// Lost events.
    pub loss: Loss,
}

impl CountsSnapshot {
    /// Marks the processes that are VMs, by TGID. TGID 0 stands for merged VMs.
    ///
    /// The counts of the others are kept: a process may be found to be a VM later, and its events until then are already in the
    /// totals of an interval.
    #[must_use]
    pub fn with_vms_marked(mut self, is_vm: impl Fn(u32) -> bool) -> Self {
        for vm in self.vms.iter_mut().flatten() {
            vm.is_vm = vm.tgid == 0 || is_vm(vm.tgid);
        }
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
        let before: HashMap<u32, &VmCounts> = earlier
            .vms
            .iter()
            .flatten()
            .map(|it| (it.tgid, it))
            .collect();
        let since = |now: &VmCounts| {
            let then = before.get(&now.tgid);
            let counts = now.counts.iter().enumerate().map(|(index, count)| {
                let then = then.and_then(|then| then.counts.get(index)).copied();
                count.saturating_sub(then.unwrap_or(0))
            });
            VmCounts {
                tgid: now.tgid,
                name: now.name.clone(),
                is_vm: now.is_vm,
                counts: counts.collect(),
            }
        };
        let vms = self.vms.as_ref();
        let vms = vms.map(|vms| vms.iter().map(since).collect());
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
        let vm = |&(tgid, count): &(u32, u64)| VmCounts {
            tgid,
            name: VmName::default(),
            is_vm: true,
            counts: vec![count],
        };
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
            vms: Some(vms.iter().map(vm).collect()),
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
