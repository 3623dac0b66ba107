//! The `stat` view: turns event counters into counts and rates per event and per VM.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{RecordedHost, RecordedTimes};
use crate::model::{
    CountsSnapshot, EventCount, Loss, VmCounts, VmName, VmUuid, capacity::MAX_MERGED_VCPUS, pid_of,
};

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
    /// The host; only for recordings of several hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<RecordedHost>,
    /// How long the host was recorded, in ns; only for recordings of several hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// Name of the VM. If it is not known, program and PID of the VMM.
    pub vm: String,
    /// UUID of the VM, if known.
    pub vm_uuid: Option<VmUuid>,
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
    /// Events per VM; `None` unless requested. The other events are those of processes that are no VMs, and of those that are not
    /// known to be VMs yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vms: Option<Vec<StatVm>>,
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
        let vm_rows = |vm: &VmCounts| StatVm {
            host: None,
            elapsed_ns: None,
            vm: vm.name.name.clone(),
            vm_uuid: vm.name.uuid,
            pid: pid_of(vm.tgid),
            events: delta
                .events
                .iter()
                .zip(&vm.counts)
                .filter(|(_, count)| **count > 0)
                .map(|(event, count)| row(&event.event, *count))
                .collect(),
        };
        let vms = delta.vms.as_ref().map(|vms| {
            let rows = vms.iter().filter(|it| it.is_vm).map(vm_rows);
            rows.filter(|vm| !vm.events.is_empty()).collect()
        });
        Self {
            view: "stat",
            start_ns: earlier.time_ns.saturating_sub(measurement_start_ns),
            elapsed_ns,
            vms,
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
            vms: None,
            loss: Loss::default(),
        };
        Self::between(measurement_start_ns, &zero, total)
    }
}

/// Sums of the counts of several recordings, which may be of several hosts.
#[derive(Debug, Default)]
pub struct MergedCounts {
    /// By host and event.
    hosts: BTreeMap<RecordedHost, BTreeMap<String, u64>>,
    /// Whether the reports have VMs.
    has_vms: bool,
    /// By host, VM and process id.
    vms: BTreeMap<(RecordedHost, VmName, u32), BTreeMap<String, u64>>,
    loss: Loss,
}

/// The recordings have more VMs than fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the recordings have more than {MAX_MERGED_VCPUS} VMs: select some, or read fewer recordings"
)]
pub struct TooManyVms;

impl MergedCounts {
    /// Adds the report on a recording of a host.
    ///
    /// # Errors
    /// [`TooManyVms`] if the limit is exceeded.
    pub fn add(&mut self, host: &RecordedHost, report: &StatReport) -> Result<(), TooManyVms> {
        self.loss = self.loss.plus(&report.loss);
        let add = |sums: &mut BTreeMap<String, u64>, events: &[StatEvent]| {
            for event in events {
                let sum = sums.entry(event.event.clone()).or_default();
                *sum = sum.saturating_add(event.count);
            }
        };
        add(self.hosts.entry(host.clone()).or_default(), &report.events);
        self.has_vms |= report.vms.is_some();
        for vm in report.vms.iter().flatten() {
            let name = VmName {
                name: vm.vm.clone(),
                uuid: vm.vm_uuid,
            };
            let id = (host.clone(), name, vm.pid);
            add(self.vms.entry(id).or_default(), &vm.events);
        }
        match self.vms.len() > MAX_MERGED_VCPUS {
            true => Err(TooManyVms),
            false => Ok(()),
        }
    }

    /// Returns the report on all recordings, which cover `times`. The rates of a host and its VMs are per second of its time, and
    /// those of all hosts are the sums of these. `has_hosts` tells whether VMs have their host.
    #[must_use]
    pub fn report(self, times: &RecordedTimes, has_hosts: bool) -> StatReport {
        let mut events: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        for (host, counts) in self.hosts {
            let elapsed_ns = times.of_host(&host);
            for (event, count) in counts {
                let (sum, rate) = events.entry(event).or_default();
                *sum = sum.saturating_add(count);
                *rate += rate_per_s(count, elapsed_ns);
            }
        }
        let events = events
            .into_iter()
            .map(|(event, (count, rate_per_s))| StatEvent {
                event,
                count,
                rate_per_s,
            });
        let vms = self.vms.into_iter().map(|((host, vm, pid), counts)| {
            let elapsed_ns = times.of_host(&host);
            let events = counts.into_iter().map(|(event, count)| StatEvent {
                event,
                count,
                rate_per_s: rate_per_s(count, elapsed_ns),
            });
            StatVm {
                host: has_hosts.then_some(host),
                elapsed_ns: has_hosts.then_some(elapsed_ns),
                vm: vm.name,
                vm_uuid: vm.uuid,
                pid,
                events: events.collect(),
            }
        });
        StatReport {
            view: "stat",
            start_ns: 0,
            elapsed_ns: times.of_all_hosts(),
            vms: self.has_vms.then(|| vms.collect()),
            events: events.collect(),
            loss: self.loss,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracefs::EventName;

    fn snapshot(time_ns: u64, count: u64, is_vm: bool) -> CountsSnapshot {
        CountsSnapshot {
            time_ns,
            events: vec![EventCount {
                event: EventName {
                    system: "kvm".into(),
                    name: "kvm_pio".into(),
                },
                count,
                lost: 0,
            }],
            vms: Some(vec![VmCounts {
                tgid: 7,
                name: "web".into(),
                is_vm,
                counts: vec![count],
            }]),
            loss: Loss::default(),
        }
    }

    #[test]
    fn events_of_a_process_that_becomes_a_vm_are_counted_once() {
        let counts = |report: &StatReport| {
            let of_vms = report.vms.iter().flatten().map(|vm| vm.events[0].count);
            (report.events[0].count, of_vms.collect::<Vec<_>>())
        };
        let start = snapshot(0, 0, false);
        let (unknown, known) = (snapshot(10, 5, false), snapshot(20, 30, true));
        let first = StatReport::between(0, &start, &unknown);
        assert_eq!(counts(&first), (5, vec![]));
        assert!(first.vms.is_some());
        assert_eq!(
            counts(&StatReport::between(0, &unknown, &known)),
            (25, vec![25])
        );
        assert_eq!(
            counts(&StatReport::between(0, &start, &known)),
            (30, vec![30])
        );
    }
}
