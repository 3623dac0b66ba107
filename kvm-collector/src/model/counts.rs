//! Events counted, as a sample: totals since the start, with the time they were read. Differences
//! and rates are derived when reading.

use std::collections::HashMap;

use super::Loss;
use crate::tracefs::EventName;

/// One event's total.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCount {
    /// Which event.
    pub event: EventName,
    /// How often it happened.
    pub count: u64,
    /// How many of these could not be queued for user space.
    pub lost: u64,
}

/// One VM's totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmCounts {
    /// The VMM's process, by its [`process_id`](super::process_id).
    pub tgid: u32,
    /// The VM's name, or the best there is.
    pub name: String,
    /// Per event, in the order of [`Counts::events`].
    pub counts: Vec<u64>,
}

/// Totals at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// When they were read, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Each event watched, sorted by name.
    pub events: Vec<EventCount>,
    /// Each VM with any event, if asked for.
    pub vms: Vec<VmCounts>,
    /// What is missing.
    pub loss: Loss,
}

impl Counts {
    /// What happened after `earlier`, a sample of the same events. `time_ns` becomes the time between.
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
        let before: HashMap<u32, &VmCounts> =
            earlier.vms.iter().map(|it| (it.tgid, it)).collect();
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

    fn sample(time_ns: u64, count: u64, vms: &[(u32, u64)]) -> Counts {
        Counts {
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
                    name: String::new(),
                    counts: vec![count],
                })
                .collect(),
            loss: Loss::default(),
        }
    }

    #[test]
    fn a_difference_keeps_vms_that_came_meanwhile() {
        let earlier = sample(100, 10, &[(1, 10)]);
        let later = sample(400, 35, &[(1, 15), (2, 20)]);
        assert_eq!(later.since(&earlier), sample(300, 25, &[(1, 5), (2, 20)]));
    }
}
