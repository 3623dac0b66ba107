//! `stat`: how often each event happened.

use serde::Serialize;

use crate::model::{CountsSnapshot, EventCount, Loss, pid_of};

/// One event's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatEvent {
    /// As `kvm:kvm_exit`.
    pub event: String,
    /// How often it happened.
    pub count: u64,
    /// Per second.
    pub rate_per_s: f64,
}

/// One VM's rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatVm {
    /// The VM's name, or the best there is.
    pub vm: String,
    /// The VMM's process.
    pub pid: u32,
    /// Its events; those that did not happen are left out.
    pub events: Vec<StatEvent>,
}

/// What happened within some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatReport {
    /// Always `stat`.
    pub view: &'static str,
    /// From the start of the measurement to the start of this report's time, in ns.
    pub start_ns: u64,
    /// How long this report's time is, in ns.
    pub elapsed_ns: u64,
    /// Every event watched, also those that did not happen.
    pub events: Vec<StatEvent>,
    /// Per VM, if asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<StatVm>,
    /// What is missing from the numbers.
    pub loss: Loss,
}

impl StatReport {
    /// What happened between two samples of a measurement that began at `began_ns`.
    #[must_use]
    pub fn between(began_ns: u64, earlier: &CountsSnapshot, later: &CountsSnapshot) -> Self {
        let delta = later.since(earlier);
        let elapsed_ns = delta.time_ns;
        let row = |event: &crate::tracefs::EventName, count| StatEvent {
            event: event.to_string(),
            count,
            rate_per_s: rate_per_s(count, elapsed_ns),
        };
        let vms = delta.vms.iter().map(|vm| StatVm {
            vm: vm.name.clone(),
            pid: pid_of(vm.tgid),
            events: delta
                .events
                .iter()
                .zip(&vm.counts)
                .filter(|(_, count)| **count > 0)
                .map(|(event, count)| row(&event.event, *count))
                .collect(),
        });
        Self {
            view: "stat",
            start_ns: earlier.time_ns.saturating_sub(began_ns),
            elapsed_ns,
            vms: vms.filter(|vm| !vm.events.is_empty()).collect(),
            events: delta
                .events
                .iter()
                .map(|event| row(&event.event, event.count))
                .collect(),
            loss: delta.loss,
        }
    }
}

impl StatReport {
    /// Everything up to a reading of a measurement that began at `began_ns`.
    #[must_use]
    pub fn of_all(began_ns: u64, total: &CountsSnapshot) -> Self {
        let events = total.events.iter().map(|event| EventCount {
            event: event.event.clone(),
            count: 0,
            lost: 0,
        });
        let nothing = CountsSnapshot {
            time_ns: began_ns,
            events: events.collect(),
            vms: Vec::new(),
            loss: Loss::default(),
        };
        Self::between(began_ns, &nothing, total)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate, for people and graphs")]
fn rate_per_s(count: u64, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 {
        0.0
    } else {
        count as f64 * 1e9 / elapsed_ns as f64
    }
}
