//! `top` plays a recording: its readings are those of `exits`.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use kvm_collector::{
    session::top::{Control, ControlQueue, TopOutput, TopPlayer},
    source::{PlaybackOptions, Recording, RecordingSummary, RecordingTime, TimeLimits},
    timing::{ReplayOptions, TimingRequest},
    tracefs::Format,
    view::{Scope, TopReading},
};
use tokio::runtime::Builder;

use crate::{
    collector::{contended_vms, report, reports, run},
    recording_file::RecordingFile,
};

const INTERVAL: &str = "200us";
const INTERVAL_NS: u64 = 200_000;

/// How long something that must happen may take.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
enum Sent {
    Reading(Box<TopReading>),
    Histograms(Box<TopReading>),
    End,
}

/// Passes on what the screen would get.
struct Output(Sender<Sent>);

impl TopOutput for Output {
    fn send_reading(&mut self, reading: Box<TopReading>) {
        let _ = self.0.send(Sent::Reading(reading));
    }

    fn send_histograms(&mut self, reading: Box<TopReading>) {
        let _ = self.0.send(Sent::Histograms(reading));
    }

    fn send_end(&mut self) {
        let _ = self.0.send(Sent::End);
    }
}

struct Played {
    controls: ControlQueue,
    sent: Receiver<Sent>,
    player: JoinHandle<anyhow::Result<Option<RecordingSummary>>>,
}

/// Plays a recording in a thread. `prepare` sends requests before the start.
fn play(path: &Path, pace: Duration, prepare: impl FnOnce(&ControlQueue)) -> Played {
    play_range(path, pace, (None, None), prepare)
}

/// Plays the range between two times since the first event, in ns.
fn play_range(
    path: &Path,
    pace: Duration,
    range_ns: (Option<u64>, Option<u64>),
    prepare: impl FnOnce(&ControlQueue),
) -> Played {
    let mut recording = Recording::open(path).expect("a recording");
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let is_switch = |format: &&Format| format.is_event("sched", "sched_switch");
    let timing = TimingRequest {
        switch: formats.iter().find(is_switch).cloned(),
        ..TimingRequest::from_formats(&formats)
    };
    let replay = ReplayOptions::new(timing, &formats);
    let playback = PlaybackOptions {
        limits: TimeLimits {
            interval_ns: Some(INTERVAL_NS),
            from: range_ns.0.map(RecordingTime::SinceStart),
            until: range_ns.1.map(RecordingTime::SinceStart),
            ..TimeLimits::default()
        },
        ..PlaybackOptions::default()
    };
    let controls = ControlQueue::default();
    prepare(&controls);
    let (sender, sent) = mpsc::channel();
    let queue = controls.clone();
    let player = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let player = {
            let _runtime = runtime.enter();
            TopPlayer::new(pace, queue, Output(sender))?
        };
        player.run(&runtime, recording, &playback, replay, |_| Ok(()))
    });
    Played {
        controls,
        sent,
        player,
    }
}

impl Played {
    /// Returns the readings up to the end of the recording.
    fn readings(&self) -> Vec<TopReading> {
        let mut readings = Vec::new();
        loop {
            match self.sent.recv_timeout(LIMIT).expect("a reading or the end") {
                Sent::Reading(reading) => readings.push(*reading),
                Sent::Histograms(_) => panic!("no scope was selected"),
                Sent::End => return readings,
            }
        }
    }

    fn end(self) -> Option<RecordingSummary> {
        self.controls.end();
        self.player.join().expect("no panic").expect("no error")
    }
}

#[test]
fn readings_of_a_recording_are_those_of_exits() {
    let file = RecordingFile::new(&contended_vms());
    let mut intervals = reports(&file, &["exits", "--json", "-I", INTERVAL, "--preempt"]);
    let total = intervals.pop().expect("a total");
    let played = play(file.path(), Duration::ZERO, |_| {});
    let readings = played.readings();
    assert_eq!(readings.len(), intervals.len());
    let mut end_ns = 0;
    for (reading, interval) in readings.iter().zip(&intervals) {
        end_ns += interval["elapsed_ns"].as_u64().expect("a time");
        assert_eq!(reading.time_ns, end_ns);
    }
    let last = readings.last().expect("a reading");
    let sum = |of: fn(&kvm_collector::view::ExitCounters) -> u64| -> u64 {
        last.thread_counters.iter().map(|it| of(&it.counters)).sum()
    };
    for (field, shown) in [
        ("count", sum(|it| it.count)),
        ("total_ns", sum(|it| it.total_ns)),
        ("vmm_ns", sum(|it| it.vmm_ns)),
        ("halted_ns", sum(|it| it.halted_ns)),
        ("preempted_ns", sum(|it| it.preempted_ns)),
    ] {
        let rows = total["rows"].as_array().expect("rows");
        let expected: u64 = rows.iter().filter_map(|row| row[field].as_u64()).sum();
        assert_eq!(shown, expected, "{field}");
    }
    assert!(sum(|it| it.total_ns) > 0);
    // Rows can be opened after the end.
    let scope = Scope::default().next_grouping();
    played.controls.send(Control::SelectScope(scope));
    match played.sent.recv_timeout(LIMIT).expect("histograms") {
        Sent::Histograms(reading) => assert_eq!(reading.scope, scope),
        other => panic!("{other:?}"),
    }
    assert!(played.end().is_some());
}

#[test]
fn readings_of_a_time_range_are_those_of_exits() {
    let file = RecordingFile::new(&contended_vms());
    for (from_us, until_us) in [(0, 400), (150, 400), (333, 1_000), (500, 501)] {
        let (from, until) = (format!("{from_us}us"), format!("{until_us}us"));
        let args = ["exits", "--json", "--preempt", "--by", "vm,vcpu,reason"];
        let range = ["--from", &from, "--until", &until];
        let total = report(&file, &[&args[..], &range].concat());
        let range_ns = (Some(from_us * 1_000), Some(until_us * 1_000));
        let played = play_range(file.path(), Duration::ZERO, range_ns, |_| {});
        let readings = played.readings();
        let last = readings.last().expect("a reading");
        assert_eq!(total["elapsed_ns"], last.time_ns, "{range:?}");
        let sum = |of: fn(&kvm_collector::view::ExitCounters) -> u64| -> u64 {
            last.thread_counters.iter().map(|it| of(&it.counters)).sum()
        };
        let expected = |list: &str, field: &str| -> u64 {
            let rows = total[list].as_array().expect("rows");
            rows.iter().filter_map(|row| row[field].as_u64()).sum()
        };
        for (field, shown) in [
            ("count", sum(|it| it.count)),
            ("total_ns", sum(|it| it.total_ns)),
            ("vmm_ns", sum(|it| it.vmm_ns)),
            ("halted_ns", sum(|it| it.halted_ns)),
            ("preempted_ns", sum(|it| it.preempted_ns)),
        ] {
            assert_eq!(shown, expected("rows", field), "{field} {range:?}");
        }
        let guest_ns: u64 = last.vcpus.iter().map(|it| it.guest_ns).sum();
        assert_eq!(guest_ns, expected("vcpus", "guest_ns"), "{range:?}");
        // The histograms of another scope.
        let scope = Scope::default().next_grouping();
        played.controls.send(Control::SelectScope(scope));
        match played.sent.recv_timeout(LIMIT).expect("histograms") {
            Sent::Histograms(reading) => {
                assert_eq!(reading.thread_counters, last.thread_counters, "{range:?}");
            }
            other => panic!("{other:?}"),
        }
        played.end();
        let once = run(&file, &[&["top", "--once"], &range[..]].concat());
        let text = String::from_utf8_lossy(&once.stdout).into_owned();
        let seconds = last.time_ns as f64 / 1e9;
        let rate =
            kvm_collector::format::units::short_rate(expected("rows", "count") as f64 / seconds);
        assert!(
            text.contains(&format!("{rate} exits/s")),
            "{range:?} {text}"
        );
    }
    let outside = run(&file, &["top", "--once", "--from", "1h"]);
    assert_eq!(outside.status.code(), Some(2), "{outside:?}");
}

#[test]
fn a_recording_can_be_paused_and_left() {
    let file = RecordingFile::new(&contended_vms());
    let pause = |controls: &ControlQueue| controls.send(Control::Pause(true));
    let played = play(file.path(), Duration::ZERO, pause);
    let nothing = played.sent.recv_timeout(Duration::from_millis(100));
    assert_eq!(nothing.err(), Some(RecvTimeoutError::Timeout));
    played.controls.send(Control::Pause(false));
    assert!(!played.readings().is_empty());
    assert!(played.end().is_some());
    // The second reading would be due in an hour.
    let played = play(file.path(), Duration::from_secs(3600), |_| {});
    let first = played.sent.recv_timeout(LIMIT);
    assert!(matches!(first, Ok(Sent::Reading(_))), "{first:?}");
    assert!(played.end().is_none());
}

#[test]
fn a_whole_recording_is_printed() {
    let file = RecordingFile::new(&contended_vms());
    let top = |args: &[&str]| {
        let output = run(&file, &[&["top", "--once"], args].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        String::from_utf8(output.stdout).expect("text")
    };
    let text = top(&[]);
    let total = report(&file, &["exits", "--json"]);
    let seconds = total["elapsed_ns"].as_u64().expect("a time") as f64 / 1e9;
    let count: u64 = total["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["count"].as_u64())
        .sum();
    let rate = kvm_collector::format::units::short_rate(count as f64 / seconds);
    assert!(text.contains(&format!("{rate} exits/s")), "{text}");
    assert!(text.contains("2 VMs  2 vCPUs"), "{text}");
    assert!(!text.ends_with("\n\n"), "{text}");
    let shorter = top(&["-d", "200us"]);
    assert!(shorter.contains("in 200.0 us"), "{shorter}");
}

#[test]
fn a_recording_without_exits_says_so() {
    let output = run(&RecordingFile::new(&[]), &["top", "--once"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("no VM exits in this recording"), "{text}");
}
