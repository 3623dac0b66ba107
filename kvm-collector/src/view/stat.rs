//! The `stat` view: turns event counters into counts and rates per event and per VM.

use serde::Serialize;

use crate::model::{CountsSnapshot, EventCount, Loss, pid_of};

/// Count and rate of one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatEvent {
    /// Name of the event, such as `kvm:kvm_exit`.
    pub event: String,
    /// Number of occurrences.
    pub count: u64,
    /// Occurrences per second.
    pub rate_per_s: f64,
}

/// Events of one VM.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatVm {
    /// Name of the VM. If it is not known, program and PID of the VMM.
    pub vm: String,
    /// PID of the VMM.
    pub pid: u32,
    /// The events that occurred.
    pub events: Vec<StatEvent>,
}

/// Events in a time interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatReport {
    /// Always `stat`.
    pub view: &'static str,
    /// Start of the interval, in ns since the start of the measurement.
    pub start_ns: u64,
    /// Length of the interval in ns.
    pub elapsed_ns: u64,
    /// All selected events, including those that did not occur.
    pub events: Vec<StatEvent>,
    /// Events per VM; empty unless requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vms: Vec<StatVm>,
    /// Lost events.
    pub loss: Loss,
}

impl StatReport {
    /// Returns the events between two snapshots of a measurement that started at
    /// `measurement_start_ns`.
    #[must_use]
    pub fn between(
        measurement_start_ns: u64,
        earlier: &CountsSnapshot,
        later: &CountsSnapshot,
    ) -> Self {
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
            start_ns: earlier.time_ns.saturating_sub(measurement_start_ns),
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
    /// Returns whether no event occurred.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.iter().all(|it| it.count == 0)
    }

    /// Returns all events up to a snapshot of a measurement that started at `measurement_start_ns`.
    #[must_use]
    pub fn since_start(measurement_start_ns: u64, total: &CountsSnapshot) -> Self {
        let events = total.events.iter().map(|event| EventCount {
            event: event.event.clone(),
            count: 0,
            lost: 0,
        });
        let zero = CountsSnapshot {
            time_ns: measurement_start_ns,
            events: events.collect(),
            vms: Vec::new(),
            loss: Loss::default(),
        };
        Self::between(measurement_start_ns, &zero, total)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
fn rate_per_s(count: u64, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 {
        0.0
    } else {
        count as f64 * 1e9 / elapsed_ns as f64
    }
}
