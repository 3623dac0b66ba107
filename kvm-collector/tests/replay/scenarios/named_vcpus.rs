//! vCPU indices from the names of threads, on kernels whose events have none: the formats are those of arm64.

use kvm_collector::{
    model::{self, StreamItem, VcpuId},
    timing::{Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};
use kvm_ebpf_common::VCPU_UNKNOWN;

const EXIT: usize = 0;
const ENTRY: usize = 1;
const USERSPACE_EXIT: usize = 2;

struct NamedThreads {
    replay: Replay,
    formats: [Format; 3],
    time_ns: u64,
}

impl NamedThreads {
    fn new() -> Self {
        let formats = ["kvm_exit", "kvm_entry", "kvm_userspace_exit"].map(|event| {
            let folder = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/formats/6.12-arm64/kvm/"
            );
            let text = std::fs::read_to_string(format!("{folder}{event}")).expect("a fixture");
            Format::parse("kvm", &text).expect("a format")
        });
        let options = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
        Self {
            replay: Replay::new(options).expect("all events are there"),
            formats,
            time_ns: 0,
        }
    }

    /// Adds an event of a thread of process 1, 10 ns after the one before. Its name tells a vCPU.
    fn add(&mut self, slot: usize, tid: u32, named_vcpu: u32) {
        self.time_ns += 10;
        let raw = vec![0; self.formats[slot].fixed_size()];
        self.replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns: self.time_ns,
            cpu: 0,
            tgid: 1,
            tid,
            subject: None,
            named_vcpu,
            sample_weight: 0,
            raw: &raw,
        }));
    }

    /// Returns the vCPU and the number of its timed exits, for each row in order.
    fn timed_exits(&mut self) -> Vec<(VcpuId, u64)> {
        let mut rows = Vec::new();
        let reading = self
            .replay
            .read_exits(&mut |it| rows.push((it.vcpu_id, it.totals.timed_count())));
        assert_eq!((reading.loss.moved, reading.loss.unmatched), (0, 0));
        rows.retain(|(_, timed)| *timed > 0);
        rows.sort();
        rows
    }
}

fn vcpu_id(vcpu: u32, tid: u32) -> VcpuId {
    VcpuId { tgid: 1, vcpu, tid }
}

#[test]
fn the_name_of_a_thread_tells_its_vcpu() {
    let mut threads = NamedThreads::new();
    for (tid, vcpu) in [(10, 0), (11, 1), (12, VCPU_UNKNOWN)] {
        for _ in 0..=tid {
            threads.add(ENTRY, tid, vcpu);
            threads.add(EXIT, tid, vcpu);
        }
    }
    assert_eq!(
        threads.timed_exits(),
        [
            (vcpu_id(0, 10), 10),
            (vcpu_id(1, 11), 11),
            (vcpu_id(VCPU_UNKNOWN, 12), 12)
        ]
    );
}

/// A name tells for which vCPU a thread is, and not that two threads run the same one. Two VMs of a process have threads with
/// the same names.
#[test]
fn a_name_does_not_tell_that_a_vcpu_has_moved() {
    let mut threads = NamedThreads::new();
    // The threads enter in turn, and each is outside of KVM_RUN while the other one runs.
    for _ in 0..6 {
        for tid in [10, 11] {
            threads.add(ENTRY, tid, 0);
            threads.add(EXIT, tid, 0);
            threads.add(USERSPACE_EXIT, tid, 0);
        }
    }
    assert_eq!(
        threads.timed_exits(),
        [(vcpu_id(0, 10), 5), (vcpu_id(0, 11), 5)]
    );
}
