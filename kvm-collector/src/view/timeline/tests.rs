//! Tests of a timeline with synthetic events.

use super::*;
use crate::{
    model::{Event, ThreadId},
    timing::{Replay, ReplayOptions, TimingRequest},
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

    fn add_item(&mut self, item: &StreamItem<'_>) {
        self.timeline.add_item(item);
        self.replay.add_item(item);
        for segment in self.replay.drain_segments() {
            self.timeline.add_segment(&segment);
        }
    }

    fn add_event(&mut self, time_ns: u64, tid: u32, name: &str, fields: &[(&str, u64)]) {
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
        self.add_item(&StreamItem::Event(Event {
            time_ns,
            cpu: 0,
            tgid: 7,
            tid,
            subject: Some(thread),
            named_vcpu: VCPU_UNKNOWN,
            slot,
            sample_weight: 0,
            raw: &raw,
        }));
    }

    fn report(mut self) -> TimelineReport {
        self.replay.finish_segments();
        for segment in self.replay.drain_segments() {
            self.timeline.add_segment(&segment);
        }
        self.timeline.report(&|tgid| format!("vm-{tgid}").into())
    }
}

fn sums(track: &TimelineTrack) -> [u64; 6] {
    track.parts_ns.each_ref().map(|it| it.iter().sum())
}

#[test]
fn time_is_divided_into_parts() {
    let mut feeder = Feeder::new();
    let vcpu = [("vcpu_id", 3)];
    feeder.add_event(990, 9, "kvm_exit", &vcpu);
    feeder.add_event(1_000, 9, "kvm_entry", &vcpu);
    feeder.add_event(1_100, 9, "kvm_exit", &vcpu);
    feeder.add_event(1_110, 9, "kvm_userspace_exit", &[]);
    feeder.add_event(1_160, 9, "kvm_vcpu_wakeup", &[("ns", 30)]);
    feeder.add_event(1_165, 9, "kvm_entry", &vcpu);
    feeder.add_event(1_265, 9, "kvm_exit", &vcpu);
    feeder.add_event(1_300, 8, "kvm_exit", &[("vcpu_id", 1)]);
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
fn merging_bins_preserves_all_counts_and_times() {
    let mut feeder = Feeder::new();
    let vcpu = [("vcpu_id", 0)];
    feeder.add_event(5, 9, "kvm_exit", &vcpu);
    feeder.add_event(5, 9, "kvm_entry", &vcpu);
    for number in 1..=1_000u64 {
        feeder.add_event(5 + number * 10_000_000, 9, "kvm_exit", &vcpu);
        feeder.add_event(5 + number * 10_000_000 + 4_000_000, 9, "kvm_entry", &vcpu);
    }
    let report = feeder.report();
    assert_eq!((report.bins, report.bin_ns), (501, 20_000_000));
    assert_eq!(report.events.iter().sum::<u64>(), 2_002);
    let track = &report.tracks[0];
    assert_eq!(track.exits.iter().sum::<u64>(), 1_001);
    let [guest_ns, kernel_ns, ..] = sums(track);
    assert_eq!(
        (guest_ns, kernel_ns),
        (10_004_000_000 - 4_000_000_000, 4_000_000_000)
    );
    // The parts add up to the length of the bin, except in the last one.
    for bin in 0..report.bins - 1 {
        let sum: u64 = track.parts_ns.iter().map(|it| it[bin]).sum();
        assert_eq!(sum, report.bin_ns, "bin {bin}");
    }
}

#[test]
fn bins_have_round_lengths() {
    let mut lengths = std::collections::BTreeSet::new();
    for elapsed_ns in (0..44).map(|power| 3_u64 << power) {
        let mut feeder = Feeder::new();
        feeder.add_event(0, 9, "kvm_exit", &[("vcpu_id", 0)]);
        feeder.add_event(elapsed_ns, 9, "kvm_entry", &[("vcpu_id", 0)]);
        let report = feeder.report();
        let is_short = elapsed_ns < 600 * FIRST_BIN_NS;
        assert!(report.bins >= 240 || is_short, "{elapsed_ns} ns");
        assert!(report.bins <= MAX_BINS, "{elapsed_ns} ns");
        let power = 10_u64.pow(report.bin_ns.ilog10());
        assert_eq!(report.bin_ns % power, 0);
        lengths.insert(report.bin_ns / power);
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 5]);
}

#[test]
fn the_number_of_bins_is_bounded() {
    let mut feeder = Feeder::new();
    const LAST_NS: u64 = (1 << 63) - 1;
    feeder.add_event(0, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.add_event(1, 9, "kvm_entry", &[("vcpu_id", 0)]);
    feeder.add_event(LAST_NS, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.add_event(3, 9, "kvm_entry", &[("vcpu_id", 0)]);
    let report = feeder.report();
    assert!(report.bins <= MAX_BINS);
    assert_eq!(sums(&report.tracks[0])[0], LAST_NS - 1);
}

#[test]
fn no_time_is_counted_across_a_loss() {
    let mut feeder = Feeder::new();
    feeder.add_event(900, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.add_event(1_000, 9, "kvm_entry", &[("vcpu_id", 0)]);
    feeder.add_item(&StreamItem::Lost {
        slot: None,
        cpu: None,
        count: 12,
        time_ns: 1_500,
    });
    feeder.add_event(2_000, 9, "kvm_exit", &[("vcpu_id", 0)]);
    feeder.add_event(2_100, 9, "kvm_entry", &[("vcpu_id", 0)]);
    let report = feeder.report();
    assert_eq!(report.lost, [12]);
    assert_eq!(sums(&report.tracks[0]), [0, 200, 0, 0, 0, 0]);
}

#[test]
fn vcpus_beyond_the_limit_share_a_track() {
    let mut feeder = Feeder::new();
    for tid in 0..200u32 {
        let vcpu = [("vcpu_id", u64::from(tid))];
        feeder.add_event(u64::from(tid), tid + 1, "kvm_exit", &vcpu);
    }
    let report = feeder.report();
    assert_eq!(report.tracks.len(), MAX_TRACKS + 1);
    assert_eq!(report.merged_vcpus, 200 - MAX_TRACKS);
    let last = report.tracks.last().expect("a shared track");
    assert_eq!((last.pid, last.exits.iter().sum::<u64>()), (0, 72));
}

#[test]
fn an_empty_recording_has_no_bins() {
    let report = Feeder::new().report();
    assert_eq!((report.bins, report.elapsed_ns), (0, 0));
}
