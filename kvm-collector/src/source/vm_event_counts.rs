//! The count of each event in each VM.

use std::collections::{BTreeMap, VecDeque};

use crate::model::capacity::MAX_COUNTED_VMS;

/// Event counts by process and slot. Beyond [`MAX_COUNTED_VMS`] processes, the oldest ones are
/// merged into process 0.
#[derive(Debug, Clone, Default)]
pub(super) struct VmEventCounts {
    vms: BTreeMap<u32, Vec<u64>>,
    /// The processes, in the order in which they were added.
    order: VecDeque<u32>,
}

impl VmEventCounts {
    /// Adds the counts of a process, by slot.
    pub(super) fn add(&mut self, tgid: u32, counts: impl Iterator<Item = u64>) {
        let order = &mut self.order;
        let sums = self.vms.entry(tgid).or_insert_with(|| {
            order.push_back(tgid);
            Vec::new()
        });
        for (slot, count) in counts.enumerate() {
            match sums.get_mut(slot) {
                Some(sum) => *sum += count,
                None => sums.push(count),
            }
        }
        while self.vms.len() > MAX_COUNTED_VMS
            && let Some(first) = self.order.pop_front()
        {
            if first == 0 {
                // Process 0 is the merged one: keep it.
                self.order.push_back(0);
            } else if let Some(counts) = self.vms.remove(&first) {
                self.add(0, counts.into_iter());
            }
        }
    }

    /// Returns the counts of each process, ordered by process.
    pub(super) fn into_counts(self) -> impl Iterator<Item = (u32, Vec<u64>)> {
        self.vms.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_all_events_are_counted() {
        let mut counts = VmEventCounts::default();
        let vms = 3 * u32::try_from(MAX_COUNTED_VMS).unwrap();
        for tgid in 1..=vms {
            counts.add(tgid, [1, u64::from(tgid)].into_iter());
        }
        assert!(counts.vms.len() <= MAX_COUNTED_VMS && counts.order.len() <= MAX_COUNTED_VMS);
        let sums = counts.into_counts().fold([0, 0], |sums, (_, counts)| {
            [sums[0] + counts[0], sums[1] + counts[1]]
        });
        let vms = u64::from(vms);
        assert_eq!(sums, [vms, vms * (vms + 1) / 2]);
    }
}
