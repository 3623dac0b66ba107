//! Reads the event counts of a live measurement, in total and per VM.

use kvm_ebpf_common::SlotCounts;

use super::{super::vm_evidence::VmEvidence, Live};
use crate::{
    model::{CountsSnapshot, EventCount, Loss, VmCounts},
    probe::ProbeError,
    timing::Attribution,
    tracefs::Format,
};

impl Live {
    /// Returns the snapshot at the start of the measurement, in which all counts are 0.
    #[must_use]
    pub fn zero_counts(&self) -> CountsSnapshot {
        let slots = vec![SlotCounts::default(); self.options.events.len()];
        CountsSnapshot {
            time_ns: self.start_ns,
            events: self.event_counts_from_slots(&slots),
            vms: None,
            loss: Loss::default(),
        }
    }

    /// Reads the total count of each event since the start. This is cheaper than
    /// [`Live::read_counts`].
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read.
    pub fn read_event_counts(&self) -> Result<Vec<EventCount>, ProbeError> {
        Ok(self.event_counts_from_slots(&self.attached.slot_counts()?))
    }

    fn event_counts_from_slots(&self, slots: &[SlotCounts]) -> Vec<EventCount> {
        let events = self.options.events.iter().zip(slots);
        let count = |(format, slot): (&Format, &SlotCounts)| EventCount {
            event: format.event_name(),
            count: slot.seen,
            lost: slot.lost,
        };
        events.map(count).collect()
    }

    /// Reads the count of each event since the start; also by VM, if requested.
    ///
    /// # Errors
    /// [`ProbeError`] if a map cannot be read or written.
    pub fn read_counts(&mut self) -> Result<CountsSnapshot, ProbeError> {
        self.attached.flush_log();
        let time_ns = self.now_ns();
        self.handle_notifications()?;
        self.store_exited_threads(self.attached.epoch())?;
        let slots = self.attached.slot_counts()?;
        let mut loss = self.missed();
        loss.lost = slots.iter().map(|slot| slot.lost).sum();
        loss.unattributed = slots.iter().map(|slot| slot.unattributed).sum();
        loss.map_full = self.attached.timing_counters().threads_full;
        let mut events = self.event_counts_from_slots(&slots);
        let (vms, unattributed) = self.read_vm_counts();
        loss.unattributed += unattributed;
        if self.options.counts_by_name() {
            for (slot, event) in events.iter_mut().enumerate() {
                event.count = vms.iter().filter_map(|vm| vm.counts.get(slot)).sum();
            }
        }
        let counts = CountsSnapshot {
            time_ns,
            events,
            vms: self.options.per_vm.then_some(vms),
            loss,
        };
        let evidence = self.vm_evidence(counts.vms.as_deref().unwrap_or_default());
        let names = self.processes.names();
        Ok(counts.with_vms_marked(|tgid| evidence.is_vm(tgid, names.is_kernel_thread(tgid))))
    }

    /// Returns what the counts tell about which processes are VMs.
    fn vm_evidence(&self, processes: &[VmCounts]) -> VmEvidence {
        let mut evidence = VmEvidence::default();
        for process in processes {
            for (format, _) in (self.options.events.iter())
                .zip(&process.counts)
                .filter(|(_, count)| **count > 0)
            {
                if Attribution::identifies_vcpu_threads(format) {
                    evidence.add_vcpu_event(process.tgid);
                } else if format.is_kvm_event() {
                    evidence.add_kvm_event(process.tgid);
                }
            }
        }
        evidence
    }

    /// Reads the counts of each selected VM. Also returns the number of events that were omitted
    /// because the name of their VM is unknown.
    fn read_vm_counts(&mut self) -> (Vec<VmCounts>, u64) {
        let mut vms = self.exited_counts.clone();
        for thread in self.attached.counted_threads().collect::<Vec<_>>() {
            let process = self.processes.of_counted_thread(&thread);
            if self.processes.decide(process) != Some(false) {
                vms.add(process, self.attached.thread_counts(thread.index));
            }
        }
        let (selected, unknown): (Vec<_>, Vec<_>) = vms
            .into_counts()
            .partition(|(tgid, _)| *tgid == 0 || self.processes.decide(*tgid) == Some(true));
        let names = self.processes.names();
        let counts = |(tgid, counts)| VmCounts {
            tgid,
            name: names.display_name(tgid),
            is_vm: true,
            counts,
        };
        let unattributed = unknown.iter().flat_map(|(_, counts)| counts).sum();
        (selected.into_iter().map(counts).collect(), unattributed)
    }
}
