//! Counting events that come one by one, as the kernel half counts them where they happen.

use std::collections::BTreeMap;

use super::Names;
use crate::{
    model::{Counts, Event, EventCount, Loss, VmCounts},
    tracefs::Format,
};

/// Counts events, and those of each VM.
#[derive(Debug)]
pub struct Tally {
    events: Vec<EventCount>,
    vms: Option<BTreeMap<u32, Vec<u64>>>,
}

impl Tally {
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

    /// Counts an event.
    pub fn add(&mut self, event: &Event<'_>) {
        let Some(counted) = self.events.get_mut(event.slot) else {
            return;
        };
        counted.count += 1;
        if let Some(vms) = &mut self.vms {
            let slots = self.events.len();
            let vm = vms.entry(event.tgid).or_insert_with(|| vec![0; slots]);
            vm[event.slot] += 1;
        }
    }

    /// Counts events of one kind that were lost.
    pub fn lost(&mut self, slot: usize, lost: u64) {
        if let Some(event) = self.events.get_mut(slot) {
            event.lost = event.lost.saturating_add(lost);
        }
    }

    /// Totals up to `time_ns`.
    #[must_use]
    pub fn counts(&self, time_ns: u64, names: &Names, loss: Loss) -> Counts {
        let vms = self.vms.iter().flatten().map(|(tgid, counts)| VmCounts {
            tgid: *tgid,
            name: names.vm(*tgid),
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
