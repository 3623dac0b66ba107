//! Counting the events of a stream, as the eBPF programs count them where they happen.

use std::collections::BTreeMap;

use crate::{
    model::{CountsSnapshot, EventCount, Loss, StreamItem, VmCounts, capacity::MAX_COUNTED_VMS},
    tracefs::Format,
};

/// Counts events, and those of each VM.
#[derive(Debug)]
pub struct EventCounter {
    events: Vec<EventCount>,
    vms: Option<Vms>,
}

/// Events of each VM. If there is no room for another one, the VMs that ended first are counted together.
#[derive(Debug, Default)]
struct Vms {
    of: BTreeMap<u32, Vm>,
    /// Those that have ended, by the number of their end.
    ended: BTreeMap<u64, u32>,
    ends: u64,
    /// Events of VMs that found no room. They are in the totals.
    lost: u64,
}

#[derive(Debug)]
struct Vm {
    counts: Vec<u64>,
    /// The number of its end, if it has ended.
    end: Option<u64>,
}

/// The process that stands for all VMs that ended first.
const ENDED_EARLIER: u32 = 0;

impl EventCounter {
    /// Of events of these formats; `per_vm` counts per VM as well.
    #[must_use]
    pub fn new(formats: &[Format], per_vm: bool) -> Self {
        let events = formats.iter().map(|format| EventCount {
            event: format.event_name(),
            count: 0,
            lost: 0,
        });
        Self {
            events: events.collect(),
            vms: per_vm.then(Vms::default),
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
                counted.count = counted.count.saturating_add(event.represented_events());
                let (Some(vms), Some(subject)) = (&mut self.vms, event.subject) else {
                    return;
                };
                vms.add(subject.tgid, event.slot, event.represented_events(), self.events.len());
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
                // A process ends with its main thread, whose number it has.
                if let Some(vms) = &mut self.vms {
                    vms.end(*tid);
                }
            }
            _ => {}
        }
    }

    /// Totals up to `time_ns`.
    #[must_use]
    pub fn counts(&self, time_ns: u64, vm_name: &dyn Fn(u32) -> String, loss: Loss) -> CountsSnapshot {
        let vms = self.vms.iter().flat_map(|it| &it.of);
        let vms = vms.map(|(tgid, vm)| VmCounts {
            tgid: *tgid,
            name: vm_name(*tgid),
            counts: vm.counts.clone(),
        });
        CountsSnapshot {
            time_ns,
            events: self.events.clone(),
            vms: vms.collect(),
            loss: Loss {
                lost: loss.lost.saturating_add(self.vms.as_ref().map_or(0, |it| it.lost)),
                ..loss
            },
        }
    }
}

impl Vms {
    #[inline]
    fn add(&mut self, tgid: u32, slot: usize, count: u64, slots: usize) {
        if self.of.len() >= MAX_COUNTED_VMS && !self.of.contains_key(&tgid) && !self.make_room() {
            self.lost = self.lost.saturating_add(count);
            return;
        }
        let vm = self.of.entry(tgid).or_insert_with(|| Vm {
            counts: vec![0; slots],
            end: None,
        });
        vm.counts[slot] = vm.counts[slot].saturating_add(count);
        if let Some(end) = vm.end.take() {
            // Another process has its number by now, or it is not quite over.
            self.ended.remove(&end);
        }
    }

    fn end(&mut self, tgid: u32) {
        if let Some(vm) = self.of.get_mut(&tgid)
            && vm.end.is_none()
        {
            self.ends += 1;
            vm.end = Some(self.ends);
            self.ended.insert(self.ends, tgid);
        }
    }

    /// Counts the VM that ended first together with those before it. False if none has ended.
    fn make_room(&mut self) -> bool {
        let Some((_, first)) = self.ended.pop_first() else {
            return false;
        };
        let Some(vm) = self.of.remove(&first) else {
            return false;
        };
        let earlier = self.of.entry(ENDED_EARLIER).or_insert_with(|| Vm {
            counts: vec![0; vm.counts.len()],
            end: None,
        });
        for (to, from) in earlier.counts.iter_mut().zip(vm.counts) {
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
        counter.take(&StreamItem::Event(Event {
            time_ns: 1,
            cpu: 0,
            tgid,
            tid: tgid,
            subject: Some(ThreadId { tgid, tid: tgid }),
            slot: 0,
            sample_weight: 0,
            raw: &[],
        }));
    }

    #[test]
    fn vms_that_ended_are_counted_together_where_there_is_no_room() {
        let formats = [Format::parse("kvm", EXIT).unwrap()];
        let most = u32::try_from(MAX_COUNTED_VMS).unwrap();
        let mut counter = EventCounter::new(&formats, true);
        for tgid in 1..=3 * most {
            count(&mut counter, tgid);
            counter.take(&StreamItem::ThreadEnd { tid: tgid });
        }
        let name = |_: u32| String::new();
        let counts = counter.counts(9, &name, Loss::default());
        assert_eq!(counts.loss.lost, 0);
        assert!(counts.vms.len() <= MAX_COUNTED_VMS + 1);
        assert_eq!(counts.vms[0].tgid, ENDED_EARLIER);
        let sum: u64 = counts.vms.iter().map(|it| it.counts[0]).sum();
        assert_eq!(sum, u64::from(3 * most));
        // Those that have not ended are not merged: further ones are in the totals only, and counted as lost.
        let mut counter = EventCounter::new(&formats, true);
        for tgid in 1..=most + 7 {
            count(&mut counter, tgid);
        }
        let counts = counter.counts(9, &name, Loss::default());
        assert_eq!((counts.vms.len(), counts.loss.lost), (MAX_COUNTED_VMS, 7));
        assert_eq!(counts.events[0].count, u64::from(most + 7));
        // A difference of two readings is not made by a search for each VM.
        let again = counter.counts(10, &name, Loss::default());
        assert_eq!(again.since(&counts).vms.len(), MAX_COUNTED_VMS);
    }
}
