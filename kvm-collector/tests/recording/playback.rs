//! Playing a recording: limits, pipes and options.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use kvm_collector::{
    model::StreamItem,
    recording::{ReadError, Reader, RecorderOptions},
    source::{PlaybackOptions, Recording, RecordingSummary, TimeLimits},
};

use crate::sample_recording::{
    batches, create_recorder, open_recording, recorded_events, write_recording,
};
use crate::temporary_folder::TemporaryFolder;

/// Time, thread and length of the raw record of each event.
type PlayedEvents = Vec<(u64, u32, usize)>;

/// Plays a recording. Returns its events, and the summary.
fn play(
    recording: Recording,
    options: &PlaybackOptions,
) -> (PlayedEvents, Result<RecordingSummary, ReadError>) {
    let mut events = Vec::new();
    let summary = recording.play(options, |item, _| {
        if let StreamItem::Event(event) = item {
            events.push((event.time_ns, event.tid, event.raw.len()));
        }
        Ok(())
    });
    (events, summary)
}

#[test]
fn reading_stops_at_the_time_limit() {
    let folder = TemporaryFolder::new();
    for zstd in [None, Some(1)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        write_recording(&path, options, &batches(250_000));
        let (all, _) = play(open_recording(&path), &PlaybackOptions::default());
        for duration_ns in [1, 2_000_000, 120_000_000] {
            let options = PlaybackOptions {
                limits: TimeLimits {
                    duration_ns: Some(duration_ns),
                    ..TimeLimits::default()
                },
                ..PlaybackOptions::default()
            };
            let (events, summary) = play(open_recording(&path), &options);
            let end_ns = all[0].0 + duration_ns;
            let expected = all.iter().filter(|it| it.0 < end_ns).count();
            assert_eq!(events.len(), expected);
            let summary = summary.expect("readable");
            assert!(summary.defect.is_none());
            assert_eq!(summary.period_ns, Some((all[0].0, end_ns)));
        }
        // An error of the callback is returned.
        let error = open_recording(&path).play(&PlaybackOptions::default(), |_, _| {
            Err::<(), _>(ReadError::Endian { path: path.clone() })
        });
        assert!(matches!(error, Err(ReadError::Endian { .. })));
    }
}

#[test]
fn a_pipe_has_the_events_of_the_file() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_recording(&path, RecorderOptions::default(), &batches(10_000));
    let mut recorder = create_recorder(&path);
    for batch in &batches(10_000) {
        recorder.record_batch(batch).expect("cannot write");
    }
    recorder.flush().expect("cannot write");
    std::mem::forget(recorder);
    let bytes = fs::read(&path).expect("a file");
    let (from_file, _) = play(open_recording(&path), &PlaybackOptions::default());
    assert_eq!(from_file.len(), 10_000);
    for chunk_bytes in [7, 1_000, bytes.len()] {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for chunk in bytes.chunks(chunk_bytes) {
                    writer.write_all(chunk).expect("cannot write to the pipe");
                }
                drop(writer);
            });
            let file = File::from(std::os::fd::OwnedFd::from(reader));
            let reader = Reader::new(file, Path::new("-")).expect("a recording");
            let mut recording = Recording::new(reader);
            recording.select_events(&recorded_events().1);
            let (from_pipe, _) = play(recording, &PlaybackOptions::default());
            assert!(from_pipe == from_file, "in chunks of {chunk_bytes} bytes");
        });
    }
}

#[test]
fn playback_without_raw_records_has_the_same_events() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_recording(&path, RecorderOptions::default(), &batches(250_000));
    let without_raw = PlaybackOptions {
        without_raw: true,
        ..PlaybackOptions::default()
    };
    let (mut with, _) = play(open_recording(&path), &PlaybackOptions::default());
    assert!(with.iter().all(|it| it.2 > 0));
    let (mut without, _) = play(open_recording(&path), &without_raw);
    for event in with.iter_mut().chain(&mut without) {
        event.2 = 0;
    }
    assert!(with == without);
}
