//! Incomplete, damaged and foreign files, and malformed batches.

use std::{
    fs::{self, File},
    io::Write as _,
};

use bytes::Bytes;
use kvm_collector::{
    model::Batch,
    recording::{HostFacts, ReadError, Recorder, RecorderOptions},
    source::RecordingSummary,
};

use crate::sample_recording::{
    START_NS, create_batch, read_lines, recorded_events, write_recording,
};
use crate::temporary_folder::TemporaryFolder;

/// Returns the bytes of a small recording. If it is not finished, it has no index, like a stream.
fn small_recording(
    folder: &TemporaryFolder,
    zstd_level: Option<i32>,
    is_finished: bool,
) -> Vec<u8> {
    let path = folder.file("small_recording");
    let options = RecorderOptions {
        path: Some(path.clone()),
        zstd_level,
        ..RecorderOptions::default()
    };
    let (events, formats) = recorded_events();
    let mut recorder = Recorder::new(options, &events[4..], &HostFacts::default()).expect("a file");
    recorder
        .record_batch(&create_batch(&formats[4..], 40, true, START_NS))
        .expect("cannot write");
    recorder.flush().expect("cannot write");
    if is_finished {
        recorder.finish().expect("cannot write");
    } else {
        std::mem::forget(recorder);
    }
    fs::read(path).expect("a file")
}

/// Writes the bytes to a file and reads it as a recording.
fn read_bytes(
    folder: &TemporaryFolder,
    bytes: &[u8],
) -> Result<(String, RecordingSummary), ReadError> {
    let path = folder.file("damaged");
    File::create(&path)
        .and_then(|mut it| it.write_all(bytes))
        .expect("cannot write");
    read_lines(&path)
}

#[test]
fn every_truncated_recording_is_an_error_or_reported_as_incomplete() {
    let folder = TemporaryFolder::new();
    for (zstd_level, is_finished) in [
        (None, true),
        (None, false),
        (Some(1), true),
        (Some(1), false),
    ] {
        let bytes = small_recording(&folder, zstd_level, is_finished);
        let (text, summary) = read_bytes(&folder, &bytes).expect("a recording");
        assert_eq!(text.lines().count(), 40);
        assert_eq!(summary.loss.damaged, u64::from(!is_finished));
        let mut partial = 0;
        // Every length of uncompressed recordings. Compressed ones start with the same bytes, so some lengths suffice.
        let step = if zstd_level.is_some() { 29 } else { 1 };
        for length in (0..bytes.len()).step_by(step) {
            if let Ok((text, summary)) = read_bytes(&folder, &bytes[..length]) {
                assert!(
                    summary.loss.damaged > 0 && summary.defect.is_some(),
                    "{length}: {summary:?}"
                );
                assert!(text.lines().count() <= 40);
                partial += usize::from(!text.is_empty());
            }
        }
        assert!(zstd_level.is_some() || partial > 1_000, "{partial}");
    }
}

#[test]
fn flipped_bits_never_panic_or_add_events() {
    let folder = TemporaryFolder::new();
    for zstd_level in [None, Some(1)] {
        let bytes = small_recording(&folder, zstd_level, true);
        let mut damaged = bytes.clone();
        // One bit of each byte near the start and the end; elsewhere only one bit of every 499th byte.
        let is_near_an_end = |at: usize| at < 300 || at + 1_200 > bytes.len();
        for at in (0..bytes.len()).filter(|at| is_near_an_end(*at) || at % 499 == 0) {
            let bit = at % 8;
            damaged[at] ^= 1 << bit;
            if let Ok((text, _)) = read_bytes(&folder, &damaged) {
                assert!(text.lines().count() <= 40, "bit {bit} of byte {at}");
            }
            damaged[at] = bytes[at];
        }
    }
}

#[test]
fn other_files_are_errors_that_say_why() {
    let folder = TemporaryFolder::new();
    let error = |bytes: &[u8]| {
        read_bytes(&folder, bytes)
            .map(|it| it.0)
            .unwrap_err()
            .to_string()
    };
    assert!(error(b"").contains("is not a perf.data file, but empty: `kvm-collector record`"));
    assert!(error(b"hello, world! what a nice day it is").contains("but text: read the recording"));
    let trace_cmd = error(b"\x17\x08\x44tracing6\0\0\x08\0\x10\0\0");
    assert!(trace_cmd.contains("but a trace.dat file of trace-cmd (version 6): no tool converts"));
    assert!(
        error(b"\x1f\x8b\x08\x08").contains("but compressed by gzip: unpack it with `gzip -d`")
    );
    let folder_error = read_lines(&folder.file("")).unwrap_err().to_string();
    assert!(
        folder_error.contains("but a directory: give a file"),
        "{folder_error}"
    );
    let mut swapped = small_recording(&folder, None, true);
    swapped[..8].reverse();
    assert!(error(&swapped).contains("-endian machine"));
    // Headers with sizes and offsets that are too large for any machine.
    let complete = small_recording(&folder, None, true);
    for at in [16, 24, 32, 40, 48] {
        let mut huge = complete.clone();
        huge[at..at + 8].copy_from_slice(&(u64::MAX / 3).to_ne_bytes());
        match read_bytes(&folder, &huge) {
            Err(error) => assert!(error.to_string().contains("is malformed"), "{error}"),
            Ok((_, summary)) => assert!(summary.loss.damaged > 0, "{at}"),
        }
    }
    assert!(matches!(
        read_lines(&folder.file("missing.data")),
        Err(ReadError::Io { .. })
    ));
}

#[test]
fn malformed_batches_are_ignored() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    for bytes in [&[][..], &[1; 10], &[0; 64], &[24; 64]] {
        let stats = write_recording(
            &path,
            RecorderOptions::default(),
            &[Batch::new(Bytes::copy_from_slice(bytes))],
        );
        let (text, _) = read_lines(&path).expect("a recording");
        assert_eq!(text.lines().count() as u64, 0, "{stats:?}");
    }
}
