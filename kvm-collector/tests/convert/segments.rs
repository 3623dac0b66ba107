//! The segments that a conversion passes to its sink.

use std::{collections::BTreeMap, io, path::Path};

use kvm_collector::{
    convert::{ConvertOptions, RecordingEnd, Sink, convert_recording},
    model::{Exit, ExitEnd, ExitPart, Segment, VcpuState},
    source::{PlaybackOptions, RecordedNames, Recording},
    timing::{Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};
use libtest_mimic::Failed;

use crate::sample_recording::{START_NS, write_many_exits, write_one_exit_of_each_kind};
use crate::temporary_folder::TemporaryFolder;

/// A sink that stores all segments.
#[derive(Default)]
struct SegmentCollector {
    guest_and_exits: Vec<Segment>,
    parts: Vec<Segment>,
}

impl Sink for SegmentCollector {
    fn guest(&mut self, guest: &Segment, _: &RecordedNames) -> io::Result<()> {
        self.guest_and_exits.push(*guest);
        Ok(())
    }

    fn exit(&mut self, exit: &Segment, parts: &[Segment], _: &RecordedNames) -> io::Result<()> {
        self.guest_and_exits.push(*exit);
        self.parts.extend_from_slice(parts);
        Ok(())
    }

    fn finish(&mut self, _: &RecordingEnd<'_>) -> io::Result<()> {
        Ok(())
    }
}

fn replay_options(formats: &[Format]) -> ReplayOptions {
    let switch = formats.iter().find(|it| it.name == "sched_switch");
    let timing = TimingRequest {
        switch: switch.cloned(),
        ..TimingRequest::from_formats(formats)
    };
    ReplayOptions::new(timing, formats)
}

fn collect_segments(path: &Path) -> Result<SegmentCollector, Failed> {
    let recording = Recording::open(path)?;
    let formats = recording.formats().to_vec();
    let conversion = ConvertOptions {
        exit_replay: Some(replay_options(&formats)),
        formats,
        playback: PlaybackOptions::default(),
        identifies_vcpus: false,
        reasons: None,
    };
    let mut collected = SegmentCollector::default();
    convert_recording(
        recording,
        conversion,
        &mut collected,
        |recording, options, each| recording.play(options, each),
    )?;
    Ok(collected)
}

pub(crate) fn check_segments() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_one_exit_of_each_kind(&path);
    let collected = collect_segments(&path)?;
    let describe = |it: &Segment| {
        let state = match it.state {
            VcpuState::Guest => "guest".to_owned(),
            VcpuState::Part(part) => format!("{part:?}"),
            VcpuState::Exit(Exit { key, end, .. }) => format!("{:#x} {end:?}", key.code),
        };
        let vcpu = it.vcpu_id.vcpu;
        (vcpu, it.from_ns - START_NS, it.to_ns - START_NS, state)
    };
    let guest_and_exits: Vec<_> = collected.guest_and_exits.iter().map(describe).collect();
    let segment = |vcpu, from, to, state: &str| (vcpu, from, to, state.to_owned());
    assert_eq!(
        guest_and_exits,
        [
            segment(0, 2_000, 2_500, "0x400 Entry"),
            segment(0, 2_500, 3_000, "guest"),
            segment(0, 3_000, 4_000, "0x7b Entry"),
            segment(0, 4_000, 5_000, "guest"),
            segment(0, 5_000, 6_000, "0x78 Entry"),
            segment(0, 6_000, 7_000, "guest"),
            segment(0, 7_000, 7_000, "0x400 UnknownEnd"),
            segment(0, 8_000, 9_000, "guest"),
            segment(0, 9_000, 9_100, "0x7b Entry"),
            segment(0, 9_100, 9_100, "guest"),
            segment(1, 8_100, 9_100, "0x78 InProgress"),
        ]
    );
    let parts: Vec<_> = collected.parts.iter().map(describe).collect();
    let name = |part: ExitPart| format!("{part:?}");
    assert_eq!(
        parts,
        [
            (0, 3_100, 4_000, name(ExitPart::Vmm)),
            (0, 3_300, 3_600, name(ExitPart::Preempted)),
            (0, 5_200, 5_900, name(ExitPart::Halted)),
        ]
    );
    Ok(())
}

/// Compares the sums of the segments with the totals of a replay.
pub(crate) fn check_sums() -> Result<(), Failed> {
    /// Numbers of all, open and untimed exits; then total, VMM, halted and preempted time.
    type Sum = (u64, u64, u64, [u64; 4]);
    let folder = TemporaryFolder::new();
    for (name, write_recording) in [
        ("one", write_one_exit_of_each_kind as fn(&Path)),
        ("many", |path| write_many_exits(path, 20_000)),
    ] {
        let path = folder.file(name);
        write_recording(&path);
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        let mut guest_ns: BTreeMap<_, u64> = BTreeMap::new();
        for segment in collect_segments(&path)?.guest_and_exits {
            let ns = segment.to_ns - segment.from_ns;
            let VcpuState::Exit(exit) = segment.state else {
                *guest_ns.entry(segment.vcpu_id).or_default() += ns;
                continue;
            };
            let sum = sums.entry((segment.vcpu_id, exit.key)).or_default();
            sum.0 += 1;
            sum.1 += u64::from(exit.end == ExitEnd::InProgress);
            sum.2 += u64::from(exit.end == ExitEnd::UnknownEnd);
            if exit.end == ExitEnd::Entry {
                let parts = exit.parts;
                let all = [ns, parts.vmm_ns, parts.halted_ns, parts.preempted_ns];
                for (sum, ns) in sum.3.iter_mut().zip(all) {
                    *sum += ns;
                }
            }
        }
        let mut recording = Recording::open(&path)?;
        let formats = recording.formats().to_vec();
        recording.select_events(&formats);
        let mut replay = Replay::new(replay_options(&formats))?;
        recording.play(&PlaybackOptions::default(), |item, _| {
            replay.add_item(item);
            Ok::<_, kvm_collector::recording::ReadError>(())
        })?;
        let mut expected: BTreeMap<_, Sum> = BTreeMap::new();
        let reading = replay.read_exits(&mut |exits| {
            let it = exits.totals;
            let sum = expected.entry((exits.vcpu_id, exits.key)).or_default();
            sum.0 += it.count;
            sum.1 += it.open;
            sum.2 += it.untimed;
            let all = [it.total_ns, it.vmm_ns, it.halted_ns, it.preempted_ns];
            for (sum, ns) in sum.3.iter_mut().zip(all) {
                *sum += ns;
            }
        });
        assert_eq!(sums, expected, "{name}");
        for vcpu in reading.vcpus {
            let ns = guest_ns.remove(&vcpu.vcpu_id).unwrap_or(0);
            assert_eq!(ns, vcpu.guest_ns, "{name}: {:?}", vcpu.vcpu_id);
        }
    }
    Ok(())
}
