//! Recordings of perf: without events of KVM, and as a directory. `tests/fixtures/README.md` says how they were made.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use kvm_collector::{
    recording::{ReadError, is_directory_recording},
    source::Recording,
};

use crate::sample_recording::{create_batch, create_recorder, read_lines, recorded_events};
use crate::temporary_folder::TemporaryFolder;

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/perf");
    fixtures.join(name)
}

fn error(path: &Path) -> String {
    let file = path.display().to_string();
    let error = Recording::open(path).expect_err("an error").to_string();
    let text = error.strip_prefix(&file);
    text.expect("starts with the path").trim_start().to_owned()
}

#[test]
fn recordings_without_tracepoints_say_what_they_have() {
    const ADVICE: &str =
        "; `kvm-collector record` and `perf record -a -e 'kvm:*'` record events of KVM";
    for (name, contents) in [
        ("samples.data", "samples of cpu-clock, page-faults"),
        ("stream.data", "samples of cpu-clock"),
        ("counts.data", "counts of task-clock, page-faults"),
    ] {
        let expected =
            format!("has no tracepoints, so it has no events of KVM: it has {contents}{ADVICE}");
        assert_eq!(error(&fixture(name)), expected);
    }
    // perf writes the names at the end, so they are missing if it was killed.
    let folder = TemporaryFolder::new();
    let path = folder.file("killed.data");
    let mut bytes = fs::read(fixture("samples.data")).expect("a file");
    bytes[48..56].fill(0);
    bytes[72..104].fill(0);
    fs::write(&path, &bytes).expect("a file");
    let text = error(&path);
    assert!(
        text.contains("it has samples of type 1 config 0x0, type 1 config 0x2;"),
        "{text}"
    );
    // A killed perf that recorded tracepoints is another case.
    let mut bytes = fs::read(fixture("group.data")).expect("a file");
    bytes[48..56].fill(0);
    bytes[72..104].fill(0);
    fs::write(&path, &bytes).expect("a file");
    assert!(error(&path).contains("does not write them when it is killed"));
}

/// Changes `sample_type` of all events.
fn without_sample_values(folder: &TemporaryFolder, bits: u64) -> PathBuf {
    let path = folder.file("changed.data");
    let recorder = create_recorder(&path);
    recorder.finish().expect("cannot write");
    let mut bytes = fs::read(&path).expect("a file");
    let number = |at: usize| {
        let number = bytes[at..at + 8].first_chunk().copied();
        usize::try_from(u64::from_le_bytes(number.expect("8 bytes"))).expect("small")
    };
    let (attr_bytes, start, size) = (number(16), number(24), number(32));
    for attr in (start..start + size).step_by(attr_bytes) {
        let field = &mut bytes[attr + 24..attr + 32];
        let old = u64::from_le_bytes(field.first_chunk().copied().expect("8 bytes"));
        field.copy_from_slice(&(old & !bits).to_le_bytes());
    }
    fs::write(&path, &bytes).expect("a file");
    path
}

#[test]
fn samples_without_times_or_raw_data_are_refused() {
    let folder = TemporaryFolder::new();
    let text = error(&without_sample_values(&folder, 1 << 2));
    assert!(
        text.starts_with(
            "has tracepoints, but their samples have no times; `kvm-collector record`"
        ),
        "{text}"
    );
    let text = error(&without_sample_values(&folder, 1 << 10));
    assert!(text.contains("have no raw data, which"), "{text}");
}

#[test]
fn events_that_perf_only_counted_are_not_events_of_the_recording() {
    let recording = Recording::open(&fixture("group.data")).expect("a recording");
    let names: Vec<_> = recording
        .formats()
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["sched_switch"]);
    let counted: Vec<_> = recording
        .only_counted()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(counted, ["sched:sched_waking"]);
}

/// The CPUs and times that `perf script -F cpu,time` prints for the directory, in us. The event of CPU 1 is in
/// another file than the others.
const EVENTS_OF_THREADS: [(u32, u64); 16] = [
    (0, 423_285),
    (0, 423_578),
    (0, 423_651),
    (0, 424_051),
    (0, 424_061),
    (0, 425_377),
    (0, 425_651),
    (0, 436_036),
    (0, 436_090),
    (0, 436_095),
    (0, 436_787),
    (1, 437_614),
    (0, 448_049),
    (0, 448_103),
    (0, 448_109),
    (0, 449_522),
];

fn cpus_and_times(path: &Path) -> (Vec<(u32, u64)>, Option<String>) {
    let (text, summary) = read_lines(path).expect("a recording");
    let event = |line: &str| {
        let (_, rest) = line.split_once('[').expect("a CPU");
        let (cpu, rest) = rest.split_once(']').expect("a CPU");
        let (time, _) = rest.trim_start().split_once(':').expect("a time");
        let us = time.strip_prefix("36556.").expect("the second");
        (cpu.parse().expect("a CPU"), us.parse().expect("a time"))
    };
    assert_eq!(summary.loss.late, 0);
    (text.lines().map(event).collect(), summary.defect)
}

#[test]
fn a_directory_of_perf_is_one_recording() {
    let folder = fixture("threads");
    assert!(is_directory_recording(&folder));
    assert!(!is_directory_recording(&fixture("")));
    for path in [&folder, &folder.join("data")] {
        let (events, defect) = cpus_and_times(path);
        assert_eq!((&events[..], defect), (&EVENTS_OF_THREADS[..], None));
    }
    let text = error(&folder.join("data.0"));
    assert!(text.contains("a part of a recording of `perf record --threads`: read the directory"));
}

#[test]
fn an_incomplete_directory_is_an_error_or_reported() {
    let folder = TemporaryFolder::new();
    let file = |name: &str| folder.file(name);
    let copy = |name: &str| {
        fs::copy(fixture("threads").join(name), file(name)).expect("a copy");
    };
    copy("data");
    let directory = file("data");
    assert!(error(&directory).contains("data.0 is missing: copy the whole directory"));
    copy("data.1");
    assert!(error(&directory).contains("data.0 is missing"));
    let bytes = fs::read(fixture("threads").join("data.0")).expect("a file");
    fs::write(file("data.0"), &bytes[..bytes.len() - 8]).expect("a file");
    let (events, defect) = cpus_and_times(&directory);
    assert!(events.iter().all(|it| EVENTS_OF_THREADS.contains(it)));
    assert!(events.len() >= 14, "{events:?}");
    let defect = defect.expect("it is damaged");
    assert!(defect.contains("data.0: at byte"), "{defect}");
}

#[test]
fn links_and_fifos_in_a_directory_of_perf_are_not_opened() {
    let folder = TemporaryFolder::new();
    for name in ["data", "data.1"] {
        fs::copy(fixture("threads").join(name), folder.file(name)).expect("a copy");
    }
    let records = folder.file("data.0");
    let expected = "data.0 in its directory is not a regular file";
    symlink(fixture("threads").join("data.0"), &records).expect("a link");
    assert!(error(&folder.file("data")).contains(expected));
    fs::remove_file(&records).expect("a link");
    let created = Command::new("mkfifo").arg(&records).status();
    assert!(created.expect("mkfifo").success());
    assert!(error(&folder.file("data")).contains(expected));
}

#[test]
fn other_directories_are_not_one_recording() {
    let folder = TemporaryFolder::new();
    let path = folder.file("data");
    let (_, formats) = recorded_events();
    let mut recorder = create_recorder(&path);
    let batch = create_batch(&formats, 3, false, 1_000_000);
    recorder.record_batch(&batch).expect("cannot write");
    recorder.finish().expect("cannot write");
    let directory = path.parent().expect("a folder");
    assert!(!is_directory_recording(directory));
    // As with `perf record --kcore`, whose directory has only this file with records.
    let (text, _) = read_lines(directory).expect("a recording");
    assert_eq!(text.lines().count(), 3);
    fs::remove_file(&path).expect("a file");
    assert!(matches!(
        read_lines(directory),
        Err(ReadError::NotARecording { .. })
    ));
}
