//! Counting the events of a stream, as the eBPF programs count them where they happen.

use std::collections::BTreeMap;

use crate::{
    model::{Counts, EventCount, Loss, StreamItem, VmCounts},
    tracefs::Format,
};

/// Counts events, and those of each VM.
#[derive(Debug)]
pub struct EventCounter {
    events: Vec<EventCount>,
    vms: Option<BTreeMap<u32, Vec<u64>>>,
}

impl EventCounter {
    /// Of events of these formats; `per_vm` counts per VM as well.
    #[must_use]
    pub fn new(formats: &[Format], per_vm: bool) -> Self {
        let events = formats.iter().map(|format| EventCount {
            event: format.event(),
            count: 0,
            lost: 0,
        });
        Self {
            events: events.collect(),
            vms: per_vm.then(BTreeMap::new),
        }
    }

    /// Counts the next item. An event counts for the VM that it is about; one that is about none, only in the totals.
    #[inline]
    pub fn take(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => {
                let Some(counted) = self.events.get_mut(event.slot) else {
                    return;
                };
                counted.count = counted.count.saturating_add(event.count());
                let (Some(vms), Some(subject)) = (&mut self.vms, event.subject) else {
                    return;
                };
                let slots = self.events.len();
                let vm = vms.entry(subject.tgid).or_insert_with(|| vec![0; slots]);
                vm[event.slot] = vm[event.slot].saturating_add(event.count());
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
            _ => {}
        }
    }

    /// Totals up to `time_ns`.
    #[must_use]
    pub fn counts(&self, time_ns: u64, vm_name: &dyn Fn(u32) -> String, loss: Loss) -> Counts {
        let vms = self.vms.iter().flatten().map(|(tgid, counts)| VmCounts {
            tgid: *tgid,
            name: vm_name(*tgid),
            counts: counts.clone(),
        });
        Counts {
            time_ns,
            events: self.events.clone(),
            vms: vms.collect(),
            loss,
        }
    }
}
