//! Counts the events of a stream, with the same rules as the eBPF programs of a live measurement.

use std::collections::BTreeMap;

use crate::{
    model::{
        CountsSnapshot, EventCount, Loss, StreamItem, VmCounts, VmName, capacity::MAX_COUNTED_VMS,
    },
    tracefs::Format,
};

/// Counts events, in total and optionally per VM.
#[derive(Debug)]
pub struct EventCounter {
    events: Vec<EventCount>,
    vms: Option<VmTable>,
}

/// Event counts per VM. When the table is full, it merges the VMs that ended first.
#[derive(Debug, Default)]
struct VmTable {
    /// Entries by TGID of the VMM.
    entries: BTreeMap<u32, VmEntry>,
    /// TGIDs of the VMs that have ended, in the order in which they ended.
    ended: BTreeMap<u64, u32>,
    /// Number of VMs that have ended so far.
    end_count: u64,
    /// Events of VMs without an entry. They are in the totals.
    lost: u64,
}

#[derive(Debug)]
struct VmEntry {
    counts: Vec<u64>,
    /// Key of this VM in `ended`, if it has ended.
    end: Option<u64>,
}

/// TGID of the entry that contains all merged VMs.
const MERGED_TGID: u32 = 0;

impl EventCounter {
    /// Creates a counter for events with these formats; `per_vm` also counts per VM.
    #[must_use]
    pub fn new(formats: &[Format], per_vm: bool) -> Self {
        let events = formats.iter().map(|format| EventCount {
            event: format.event_name(),
            count: 0,
            lost: 0,
        });
        Self {
            events: events.collect(),
            vms: per_vm.then(VmTable::default),
        }
    }

    /// Counts an item. An event that belongs to no VM is only in the totals.
    #[inline]
    pub fn add_item(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => {
                let Some(counted) = self.events.get_mut(event.slot) else {
                    return;
                };
                counted.count = counted.count.saturating_add(event.represented_events());
                // Process 0 is the idle task of each CPU, in which interrupts are handled too.
                let subject = event.subject.filter(|it| it.tgid != MERGED_TGID);
                let (Some(vms), Some(subject)) = (&mut self.vms, subject) else {
                    return;
                };
                vms.add(
                    subject.tgid,
                    event.slot,
                    event.represented_events(),
                    self.events.len(),
                );
            }
            StreamItem::Lost {
                slot: Some(slot),
                count,
                ..
            } => {
                if let Some(event) = self.events.get_mut(*slot) {
                    event.lost = event.lost.saturating_add(*count);
                }
            }
            StreamItem::ThreadEnd { tid } => {
                // The TID of a process's main thread is the TGID, so this is the end of the process.
                if let Some(vms) = &mut self.vms {
                    vms.end(*tid);
                }
            }
            _ => {}
        }
    }

    /// Returns the counts up to `time_ns`.
    #[must_use]
    pub fn counts(
        &self,
        time_ns: u64,
        vm_name: &dyn Fn(u32) -> VmName,
        loss: Loss,
    ) -> CountsSnapshot {
        let counts = |(tgid, vm): (&u32, &VmEntry)| VmCounts {
            tgid: *tgid,
            name: vm_name(*tgid),
            is_vm: true,
            counts: vm.counts.clone(),
        };
        let vms = self.vms.as_ref();
        let vms = vms.map(|vms| vms.entries.iter().map(counts).collect());
        CountsSnapshot {
            time_ns,
            events: self.events.clone(),
            vms,
            loss: Loss {
                lost: loss
                    .lost
                    .saturating_add(self.vms.as_ref().map_or(0, |it| it.lost)),
                ..loss
            },
        }
    }
}

impl VmTable {
    #[inline]
    fn add(&mut self, tgid: u32, slot: usize, count: u64, slots: usize) {
        if self.entries.len() >= MAX_COUNTED_VMS
            && !self.entries.contains_key(&tgid)
            && !self.merge_first_ended()
        {
            self.lost = self.lost.saturating_add(count);
            return;
        }
        let vm = self.entries.entry(tgid).or_insert_with(|| VmEntry {
            counts: vec![0; slots],
            end: None,
        });
        vm.counts[slot] = vm.counts[slot].saturating_add(count);
        if let Some(end) = vm.end.take() {
            // A new process has the same TGID, or other threads of the process still run.
            self.ended.remove(&end);
        }
    }

    fn end(&mut self, tgid: u32) {
        if let Some(vm) = self.entries.get_mut(&tgid)
            && vm.end.is_none()
        {
            self.end_count += 1;
            vm.end = Some(self.end_count);
            self.ended.insert(self.end_count, tgid);
        }
    }

    /// Merges the VM that ended first into the entry of merged VMs. Returns false if no VM has ended.
    fn merge_first_ended(&mut self) -> bool {
        let Some((_, first)) = self.ended.pop_first() else {
            return false;
        };
        let Some(vm) = self.entries.remove(&first) else {
            return false;
        };
        let merged = self.entries.entry(MERGED_TGID).or_insert_with(|| VmEntry {
            counts: vec![0; vm.counts.len()],
            end: None,
        });
        for (to, from) in merged.counts.iter_mut().zip(vm.counts) {
            *to = to.saturating_add(from);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, ThreadId};

    const EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");

    fn count(counter: &mut EventCounter, tgid: u32) {
        counter.add_item(&StreamItem::Event(Event {
            time_ns: 1,
            cpu: 0,
            tgid,
            tid: tgid,
            subject: Some(ThreadId { tgid, tid: tgid }),
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            slot: 0,
            sample_weight: 0,
            raw: &[],
        }));
    }

    #[test]
    fn ended_vms_are_merged_when_the_table_is_full() {
        let formats = [Format::parse("kvm", EXIT).unwrap()];
        let max = u32::try_from(MAX_COUNTED_VMS).unwrap();
        let mut counter = EventCounter::new(&formats, true);
        for tgid in 1..=3 * max {
            count(&mut counter, tgid);
            counter.add_item(&StreamItem::ThreadEnd { tid: tgid });
        }
        let name = |_: u32| VmName::default();
        let counts = counter.counts(9, &name, Loss::default());
        assert_eq!(counts.loss.lost, 0);
        let vms = counts.vms.unwrap();
        assert!(vms.len() <= MAX_COUNTED_VMS + 1);
        assert_eq!(vms[0].tgid, MERGED_TGID);
        let sum: u64 = vms.iter().map(|it| it.counts[0]).sum();
        assert_eq!(sum, u64::from(3 * max));
        // Running VMs are not merged. Events of further VMs are in the totals and counted as lost.
        let mut counter = EventCounter::new(&formats, true);
        for tgid in 1..=max + 7 {
            count(&mut counter, tgid);
        }
        let counts = counter.counts(9, &name, Loss::default());
        let vms = |counts: &CountsSnapshot| counts.vms.as_ref().unwrap().len();
        assert_eq!((vms(&counts), counts.loss.lost), (MAX_COUNTED_VMS, 7));
        assert_eq!(counts.events[0].count, u64::from(max + 7));
        let again = counter.counts(10, &name, Loss::default());
        assert_eq!(vms(&again.since(&counts)), MAX_COUNTED_VMS);
    }
}
