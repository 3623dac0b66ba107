//! What is written to a recording is read from it.

use std::fs;

use kvm_collector::{
    model::StreamItem,
    recording::{ReadError, RecorderOptions},
    source::{PlaybackOptions, Recording},
};
use kvm_ebpf_common::RECORD_RAW_OFFSET;

use crate::sample_recording::{
    START_NS, TGID, batches, create_batch, create_recorder, live_lines, read_lines,
    recorded_events, without_names, write_recording,
};
use crate::temporary_folder::TemporaryFolder;

#[test]
fn an_empty_recording_is_complete() {
    let folder = TemporaryFolder::new();
    for zstd in [None, Some(1)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        let stats = write_recording(&path, options, &[]);
        assert_eq!(stats.events, 0);
        assert_eq!(stats.bytes, fs::metadata(&path).expect("a file").len());
        let (text, summary) = read_lines(&path).expect("a recording");
        assert!(text.is_empty(), "{text}");
        assert!(
            summary.loss.is_empty() && summary.defect.is_none(),
            "{summary:?}"
        );
    }
}

#[test]
fn a_recording_has_the_lines_of_a_live_trace() {
    let folder = TemporaryFolder::new();
    // More events than a round of sorting has, and more than one write has.
    let batches = batches(250_000);
    let live = live_lines(&batches);
    assert!(live.contains("CPU 0/KVM-1073741824"), "{}", &live[..200]);
    for zstd in [None, Some(1), Some(9)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        let stats = write_recording(&path, options, &batches);
        assert_eq!(stats.events, 250_000);
        assert_eq!(stats.bytes, fs::metadata(&path).expect("a file").len());
        let (text, summary) = read_lines(&path).expect("a recording");
        assert!(
            summary.loss.is_empty() && summary.defect.is_none() && summary.loss.late == 0,
            "{summary:?}"
        );
        assert!(
            without_names(&text) == without_names(&live),
            "not the same lines with {zstd:?}"
        );
    }
}

#[test]
fn a_killed_recording_is_read_up_to_its_last_write() {
    let folder = TemporaryFolder::new();
    let batches = batches(10_000);
    let path = folder.file("kvm.data");
    let mut recorder = create_recorder(&path);
    for batch in &batches {
        recorder.record_batch(batch).expect("cannot write");
    }
    recorder.flush().expect("cannot write");
    // Nothing more is written, as after a SIGKILL.
    std::mem::forget(recorder);
    let (text, summary) = read_lines(&path).expect("a recording");
    assert!(without_names(&text) == without_names(&live_lines(&batches)));
    assert_eq!(summary.loss.damaged, 1);
    assert!(summary.defect.expect("a defect").contains("not finished"));
}

#[test]
fn threads_have_the_names_from_their_ends() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let batches = batches(400);
    write_recording(&path, RecorderOptions::default(), &batches);
    let (text, _) = read_lines(&path).expect("a recording");
    assert!(text == live_lines(&batches));
    assert!(text.lines().all(|line| line.contains("CPU 0/KVM-10737418")));
}

#[test]
fn losses_are_recorded() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let mut recorder = create_recorder(&path);
    let batch = create_batch(&recorded_events().1, 10, true, START_NS);
    recorder.record_batch(&batch).expect("cannot write");
    recorder.record_loss(Some(2), 40, START_NS + 1_000_000);
    recorder.record_loss(None, 2, START_NS + 2_000_000);
    recorder.finish().expect("cannot write");
    let mut recording = Recording::open(&path).expect("a recording");
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let mut lost = Vec::new();
    let summary = recording
        .play(&PlaybackOptions::default(), |item, _| {
            if let StreamItem::Lost { slot, count, .. } = item {
                lost.push((slot.map(|it| formats[it].name.clone()), *count));
            }
            Ok::<_, ReadError>(())
        })
        .expect("readable");
    assert_eq!(lost, [(Some("kvm_exit".to_owned()), 40), (None, 2)]);
    assert_eq!(summary.loss.lost, 42);
}

#[test]
fn raw_records_are_unchanged() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let (_, formats) = recorded_events();
    let batch = create_batch(&formats, 5, true, START_NS);
    write_recording(
        &path,
        RecorderOptions::default(),
        std::slice::from_ref(&batch),
    );
    let raws: Vec<Vec<u8>> = batch
        .records()
        .take(5)
        .map(|it| it.1.raw.to_vec())
        .collect();
    let mut recording = Recording::open(&path).expect("a recording");
    recording.select_events(&formats);
    let mut count = 0;
    recording
        .play(&PlaybackOptions::default(), |item, _| {
            if let StreamItem::Event(event) = item {
                // Each of the five events is recorded once, so slots are indexes of `raws`.
                let raw = &raws[event.slot];
                let id = usize::from(formats[event.slot].id).to_ne_bytes();
                assert_eq!(event.raw[..2], id[..2]);
                assert_eq!(event.raw[4..8], event.tid.to_ne_bytes());
                assert_eq!(event.raw[8..raw.len()], raw[8..]);
                assert!(event.raw.len() < raw.len() + 8);
                assert_eq!(event.tgid, TGID);
                count += 1;
            }
            Ok::<_, ReadError>(())
        })
        .expect("readable");
    assert_eq!(count, 5);
    assert_eq!(RECORD_RAW_OFFSET, 16);
}
