//! The slowest exits of a stream, in bounded memory.

use kvm_ebpf_common::SlowExit;

use super::{KeyNames, SlowExitRow};
use crate::model::VmName;

/// Collects the exits with the most time without halted time, by which `--slow` decides too.
#[derive(Debug)]
pub struct SlowestExits {
    max: usize,
    /// At most `max` exits, the slowest first. Of equally slow ones, the earlier comes first.
    exits: Vec<SlowExit>,
}

impl SlowestExits {
    /// Creates a collection of at most `max` exits.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            exits: Vec::with_capacity(max),
        }
    }

    /// Adds an exit, and drops the fastest one if there are too many. Exits must be added in the
    /// order of their ends.
    pub fn add(&mut self, exit: &SlowExit) {
        let busy_ns = exit.span.busy_ns();
        let index = self
            .exits
            .partition_point(|it| it.span.busy_ns() >= busy_ns);
        if index == self.max {
            return;
        }
        self.exits.truncate(self.max - 1);
        self.exits.insert(index, *exit);
    }

    /// Returns a row per exit, the slowest first.
    #[must_use]
    pub fn rows(&self, names: &KeyNames<'_>, vm_name: &dyn Fn(u32) -> VmName) -> Vec<SlowExitRow> {
        let exits = self.exits.iter();
        exits
            .map(|exit| SlowExitRow::from_record(exit, names, vm_name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use kvm_ebpf_common::{Key, RecordHeader, Span, SpanBreakdown};

    use super::*;
    use crate::{model::next_process_id, tracefs::ReasonNames};

    fn exit(end_ns: u64, total_ns: u64, halted_ns: u64) -> SlowExit {
        SlowExit {
            header: RecordHeader {
                time_ns: end_ns,
                tgid: next_process_id(7),
                tid: 9,
                ..RecordHeader::default()
            },
            span: Span {
                key: Key::default(),
                total_ns,
                breakdown: SpanBreakdown {
                    halted_ns,
                    ..SpanBreakdown::default()
                },
            },
            cause: Key::default(),
            guest_rip: 0,
            vcpu: 0,
            padding: 0,
        }
    }

    #[test]
    fn the_slowest_exits_without_halted_time_remain() {
        let mut slowest = SlowestExits::new(3);
        for (end_ns, total_ns, halted_ns) in [
            (1, 100, 0),
            (2, 9_000, 8_990),
            (3, 300, 0),
            (4, 100, 0),
            (5, 400, 300),
            (6, 200, 0),
        ] {
            slowest.add(&exit(10_000 + end_ns, total_ns, halted_ns));
        }
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: None,
            cause_events: Vec::new(),
        };
        let rows = slowest.rows(&names, &|tgid| format!("vm-{tgid}").into());
        let rows: Vec<_> = rows
            .iter()
            .map(|it| (it.time_ns + it.duration_ns, it.duration_ns, it.pid))
            .collect();
        assert_eq!(rows, [(10_003, 300, 7), (10_006, 200, 7), (10_001, 100, 7)]);
        assert!(slowest.exits.capacity() <= 3);
    }
}
