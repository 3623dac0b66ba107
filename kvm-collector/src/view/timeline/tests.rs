//! A timeline of events that were made up.

use super::*;
use crate::{
    model::{Event, ThreadId},
    timing::{TimingRequest, Replay, ReplayOptions},
    tracefs::Format,
};

const NAMES: [&str; 4] = [
    "kvm_entry",
    "kvm_exit",
    "kvm_userspace_exit",
    "kvm_vcpu_wakeup",
];

fn formats() -> Vec<Format> {
    NAMES
        .iter()
        .map(|name| {
            let folder = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/fixtures/formats/6.18-x86_64/kvm/"
            );
            let text = std::fs::read_to_string(format!("{folder}{name}")).expect("a fixture");
            Format::parse("kvm", &text).expect("a format")
        })
        .collect()
}

struct Feeder {
    formats: Vec<Format>,
    replay: Replay,
    timeline: Timeline,
}

impl Feeder {
    fn new() -> Self {
        let formats = formats();
        let options = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
        let mut replay = Replay::new(options).expect("all events are there");
        replay.log_segments();
        Self {
            formats,
            replay,
            timeline: Timeline::default(),
        }
    }

    fn take(&mut self, item: &StreamItem<'_>) {
        self.timeline.take(item);
        self.replay.add_item(item);
        for segment in self.replay.drain_segments() {
            self.timeline.segment(&segment);
        }
    }

    fn feed(&mut self, time_ns: u64, tid: u32, name: &str, fields: &[(&str, u64)]) {
        let slot = NAMES
            .iter()
            .position(|it| *it == name)
            .expect("one of these");
        let format = &self.formats[slot];
        let mut raw = vec![0; format.fixed_size()];
        for (name, value) in fields {
            let field = format.field(name).expect("a field");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_le_bytes()[..field.size]);
        }
        let thread = ThreadId { tgid: 7, tid };
        self.take(&StreamItem::Event(Event {
            time_ns,
            cpu: 0,
            tgid: 7,
            tid,
            subject: Some(thread),
            slot,
            sample_weight: 0,
            raw: &raw,
        }));
    }

    fn report(mut self) -> TimelineReport {
        self.replay.finish_segments();
        for segment in self.replay.drain_segments() {
            self.timeline.segment(&segment);
        }
        self.timeline.report(&|tgid| format!("vm-{tgid}"))
    }
}

fn sums(track: &TimelineTrack) -> [u64; 6] {
    track.parts_ns.each_ref().map(|it| it.iter().sum())
}

#[test]
fn time_goes_to_where_the_vcpu_was() {
    let mut feeder = Feeder::new();
    let vcpu = [("vcpu_id", 3)];
    feeder.feed(990, 9, "kvm_exit", &vcpu);
    feeder.feed(1_000, 9, "kvm_entry", &vcpu);
    feeder.feed(1_100, 9, "kvm_exit", &vcpu);
    feeder.feed(1_110, 9, "kvm_userspace_exit", &[]);
    feeder.feed(1_160, 9, "kvm_vcpu_wakeup", &[("ns", 30)]);
    feeder.feed(1_165, 9, "kvm_entry", &vcpu);
    feeder.feed(1_265, 9, "kvm_exit", &vcpu);
    feeder.feed(1_300, 8, "kvm_exit", &[("vcpu_id", 1)]);
    let report = feeder.report();
    assert_eq!(report.elapsed_ns, 310);
    assert_eq!(report.events, [8]);
    let track = &report.tracks[1];
    assert_eq!(
        (track.vm.as_str(), track.pid, track.vcpu),
        ("vm-7", 7, Some(3))
    );
    assert_eq!(sums(track), [200, 25, 20, 30, 0, 35]);
    assert_eq!(track.exits, [3]);
}

#[test]
fn bins_are_merged_and_lose_nothing() {
    let mut feeder = Feeder::new();
    let vcpu = [("vcpu_id", 0)];
    feeder.feed(5, 9, "kvm_exit", &vcpu);
    feeder.feed(5, 9, "kvm_entry", &vcpu);
    for number in 1..=1_000u64 {
        feeder.feed(5 + number * 10_000_000, 9, "kvm_exit", &vcpu);
        feeder.feed(5 + number * 10_000_000 + 4_000_000, 9, "kvm_entry", &vcpu);
    }
    let report = feeder.report();
    assert!(
        (MOST_BINS / 2..=MOST_BINS).contains(&report.bins),
        "{}",
        report.bins
    );
    assert_eq!(report.events.iter().sum::<u64>(), 2_002);
    let track = &report.tracks[0];
    assert_eq!(track.exits.iter().sum::<u64>(), 1_001);
    let [guest_ns, kernel_ns, ..] = sums(track);
    assert_eq!(
        (guest_ns, kernel_ns),
        (10_004_000_000 - 4_000_000_000, 4_000_000_000)
    );
    // Each bin is full, up to the last.
    for bin in 0..report.bins - 1 {
        let sum: u64 = track.parts_ns.iter().map(|it| it[bin]).sum();
        assert_eq!(sum, report.bin_ns, "bin {bin}");
    }
}

#[test]
fn a_time_far_away_takes_no_more_bins() {
    let mut feeder = Feeder::new();
    const LAST_NS: u64 = (1 << 63) - 1;
    feeder.feed(0, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.feed(1, 9, "kvm_entry", &[("vcpu_id", 0)]);
    feeder.feed(LAST_NS, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.feed(3, 9, "kvm_entry", &[("vcpu_id", 0)]);
    let report = feeder.report();
    assert!(report.bins <= MOST_BINS);
    assert_eq!(sums(&report.tracks[0])[0], LAST_NS - 1);
}

#[test]
fn nothing_reaches_across_a_loss() {
    let mut feeder = Feeder::new();
    feeder.feed(900, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.feed(1_000, 9, "kvm_entry", &[("vcpu_id", 0)]);
    feeder.take(&StreamItem::Lost {
        slot: None,
        cpu: None,
        count: 12,
        time_ns: 1_500,
    });
    feeder.feed(2_000, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.feed(2_100, 9, "kvm_entry", &[("vcpu_id", 0)]);
    let report = feeder.report();
    assert_eq!(report.lost, [12]);
    assert_eq!(sums(&report.tracks[0]), [0, 200, 0, 0, 0, 0]);
}

#[test]
fn more_vcpus_than_are_told_apart_are_taken_together() {
    let mut feeder = Feeder::new();
    for tid in 0..200u32 {
        let vcpu = [("vcpu_id", u64::from(tid))];
        feeder.feed(u64::from(tid), tid + 1, "kvm_exit", &vcpu);
    }
    let report = feeder.report();
    assert_eq!(report.tracks.len(), MOST_TRACKS + 1);
    assert_eq!(report.together, 200 - MOST_TRACKS);
    let last = report.tracks.last().expect("there are many");
    assert_eq!((last.pid, last.exits.iter().sum::<u64>()), (0, 72));
}

#[test]
fn nothing_is_no_bins() {
    let report = Feeder::new().report();
    assert_eq!((report.bins, report.elapsed_ns), (0, 0));
}
