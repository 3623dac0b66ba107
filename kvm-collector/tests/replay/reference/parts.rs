//! The parts of an exit as sets of intervals.

use super::{IndexedEvent, counted_key};
use crate::event::{CountMode, EventType};

type Interval = (u64, u64);

/// The intervals in which a thread was in each part of a span. They may overlap.
pub(super) struct Parts {
    pub(super) vmm: Vec<Interval>,
    pub(super) halted: Vec<Interval>,
    pub(super) preempted: Vec<Interval>,
}

impl Parts {
    pub(super) fn new(mode: CountMode, events: &[IndexedEvent], end_ns: u64) -> Self {
        let start_ns = events[0].1.time_ns;
        let mut parts = Self {
            vmm: Vec::new(),
            halted: Vec::new(),
            preempted: Vec::new(),
        };
        for (index, (_, event)) in events.iter().enumerate() {
            match event.event_type {
                EventType::Wakeup { ns } => {
                    let halt_ns = (event.time_ns - ns).max(start_ns);
                    parts.halted.push((halt_ns, event.time_ns));
                }
                EventType::SwitchIn
                    if index > 0
                        && events[index - 1].1.event_type
                            == (EventType::SwitchOut { is_runnable: true }) =>
                {
                    let out_ns = events[index - 1].1.time_ns;
                    parts.preempted.push((out_ns, event.time_ns));
                }
                EventType::UserspaceExit { .. } => {
                    // The VMM runs until the thread halts in the kernel or has an event that is counted.
                    let return_ns = |(_, it): &IndexedEvent| match it.event_type {
                        EventType::Wakeup { ns } => Some((it.time_ns - ns).max(event.time_ns)),
                        _ => counted_key(mode, it).map(|_| it.time_ns),
                    };
                    let end_of_vmm_ns = events[index + 1..]
                        .iter()
                        .find_map(return_ns)
                        .unwrap_or(end_ns);
                    parts.vmm.push((event.time_ns, end_of_vmm_ns));
                }
                _ => {}
            }
        }
        parts
    }
}

/// Returns the length of the union of the intervals.
pub(super) fn length(intervals: &[Interval]) -> u64 {
    let mut sorted = intervals.to_vec();
    sorted.sort_unstable();
    let (mut sum, mut covered_to) = (0, 0);
    for (from, to) in sorted {
        let from = from.max(covered_to);
        sum += to.saturating_sub(from);
        covered_to = covered_to.max(to);
    }
    sum
}

/// Returns the intervals without those in `others`.
pub(super) fn without(intervals: &[Interval], others: &[Interval]) -> Vec<Interval> {
    let mut remaining = intervals.to_vec();
    for &(from, to) in others {
        remaining = remaining
            .iter()
            .flat_map(|&(start, end)| [(start, end.min(from)), (start.max(to), end)])
            .filter(|(start, end)| start < end)
            .collect();
    }
    remaining
}
