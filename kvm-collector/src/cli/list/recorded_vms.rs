//! The VMs of a recording, with their vCPUs and numbers of events.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    host::Vcpu,
    model::{Event, ThreadId, VmName, VmUuid, capacity::MAX_KNOWN_TASKS},
    source::{RecordedNames, RecordingSummary},
    timing::Attribution,
    tracefs::Format,
};

/// A VM of a recording.
#[derive(Debug, Serialize)]
pub(super) struct RecordedVm {
    pub(super) vm: String,
    pub(super) vm_uuid: Option<VmUuid>,
    pub(super) pid: u32,
    /// Number of selected events.
    pub(super) count: u64,
    /// The vCPUs that had selected events.
    pub(super) vcpus: Vec<Vcpu>,
}

/// What is known of a process after its selected events.
#[derive(Debug, Default)]
struct Process {
    events: u64,
    /// The last thread of each vCPU.
    vcpus: BTreeMap<u32, u32>,
}

/// Counts the selected events of each process.
#[derive(Debug)]
pub(super) struct ProcessCounter {
    processes: BTreeMap<u32, Process>,
    /// Whether the events of each slot happen in the thread of their vCPU.
    is_in_vcpu_thread: Vec<bool>,
    /// Number of vCPUs of all processes.
    vcpus: usize,
}

impl ProcessCounter {
    /// Counts events of these formats.
    pub(super) fn new(formats: &[Format]) -> Self {
        // A timer or another vCPU can cause other events that name a vCPU.
        let is_in_vcpu_thread = |format: &Format| {
            Attribution::identifies_vcpu_threads(format) || format.field("vcpu_id").is_none()
        };
        Self {
            processes: BTreeMap::new(),
            is_in_vcpu_thread: formats.iter().map(is_in_vcpu_thread).collect(),
            vcpus: 0,
        }
    }

    /// Adds an event, which concerns this vCPU if it is known.
    pub(super) fn add(&mut self, event: &Event<'_>, vcpu: Option<u32>) {
        if self.processes.len() >= MAX_KNOWN_TASKS && !self.processes.contains_key(&event.tgid) {
            return;
        }
        let process = self.processes.entry(event.tgid).or_default();
        process.events = process.events.saturating_add(event.represented_events());
        let is_in_vcpu_thread = self.is_in_vcpu_thread.get(event.slot) == Some(&true);
        let Some(vcpu) = vcpu.filter(|_| is_in_vcpu_thread) else {
            return;
        };
        let subject = event.subject.unwrap_or(event.thread());
        if subject.tgid != event.tgid || self.vcpus >= MAX_KNOWN_TASKS {
            return;
        }
        if process.vcpus.insert(vcpu, subject.tid).is_none() {
            self.vcpus += 1;
        }
    }

    /// Returns the VMs: those of all processes in the summary, or only those that had selected events.
    pub(super) fn vms(&self, summary: &RecordingSummary, is_part: bool) -> Vec<RecordedVm> {
        let names = &summary.names;
        let pids: Vec<_> = match is_part {
            false => summary.processes.iter().map(|it| it.pid).collect(),
            true => self.processes.keys().copied().collect(),
        };
        let vms = pids.into_iter().filter(|pid| names.is_vm(*pid));
        vms.map(|pid| self.vm(pid, names)).collect()
    }

    fn vm(&self, pid: u32, names: &RecordedNames) -> RecordedVm {
        let VmName { name, uuid } = names.vm_name(pid);
        let process = self.processes.get(&pid);
        let vcpus = process.into_iter().flat_map(|it| &it.vcpus);
        let vcpu = |(&index, &tid): (&u32, &u32)| Vcpu {
            index: Some(index),
            tid,
            comm: names.comm(ThreadId { tgid: pid, tid }).to_owned(),
        };
        RecordedVm {
            vm: name,
            vm_uuid: uuid,
            pid,
            count: process.map_or(0, |it| it.events),
            vcpus: vcpus.map(vcpu).collect(),
        }
    }
}
