//! The exits of a recording before the requested range.

use super::names::new_reading;
use crate::{
    model::{ExitTotals, MinMax, StreamItem, ThreadExits, VcpuId, VcpuTimes},
    timing::{Replay, TimingRequest},
    view::TopReading,
};
use kvm_ebpf_common::Key;

/// The totals at the start of the requested range. They are stored by thread and key, because the scope of later readings is not
/// known yet. Empty if there is no such range.
#[derive(Debug, Default)]
pub(super) struct ExitsBeforeRange {
    exits: Vec<(VcpuId, Key, Box<ExitTotals>)>,
    vcpus: Vec<VcpuTimes>,
}

impl ExitsBeforeRange {
    /// Stores the exits so far if an item, which the replay has received, starts the range.
    pub(super) fn update(&mut self, item: &StreamItem<'_>, replay: &mut Replay) {
        if !matches!(item, StreamItem::RangeStart { .. }) {
            return;
        }
        let exits = &mut self.exits;
        let reading = replay.read_exits(&mut |it| {
            exits.push((it.vcpu_id, it.key, Box::new(it.totals.clone())));
        });
        self.vcpus = reading.vcpus;
    }

    /// Removes these exits from a reading, which then has those in the range.
    pub(super) fn subtract_from(&self, reading: &mut TopReading, timing: &TimingRequest) {
        if self.exits.is_empty() && self.vcpus.is_empty() {
            return;
        }
        let mut before = new_reading(reading.scope, Some(timing));
        for (vcpu_id, key, totals) in &self.exits {
            before.add(&ThreadExits {
                vcpu_id: *vcpu_id,
                key: *key,
                totals,
                recent: MinMax::NONE,
                causes: None,
            });
        }
        before.vcpus.clone_from(&self.vcpus);
        reading.subtract_before_range(&before);
    }
}
