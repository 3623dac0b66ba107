//! Limits of the size and number of files, and the flight recorder.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use kvm_collector::recording::{
    BatchOutcome, FlightRecorderOptions, HostFacts, Recorder, RecorderOptions,
};

use crate::sample_recording::{
    batches, live_lines, read_lines, recorded_events, without_names, write_recording,
};
use crate::temporary_folder::TemporaryFolder;

#[test]
fn files_have_the_requested_size_and_number() {
    const MAX_BYTES: u64 = 4 << 20;
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let batches = batches(400_000);
    let options = RecorderOptions {
        max_file_bytes: Some(MAX_BYTES),
        max_files: Some(3),
        ..RecorderOptions::default()
    };
    let stats = write_recording(&path, options, &batches);
    assert_eq!(stats.events, 400_000);
    assert!(stats.files > 4, "{stats:?}");
    let live = live_lines(&batches);
    let mut newest = String::new();
    for name in ["kvm.data.2", "kvm.data.1", "kvm.data"] {
        let file = folder.file(name);
        let length = fs::metadata(&file).expect("a file").len();
        assert!(
            length <= MAX_BYTES && length > MAX_BYTES / 2,
            "{name}: {length}"
        );
        let (text, summary) = read_lines(&file).expect("a recording");
        assert!(summary.loss.is_empty(), "{name}: {summary:?}");
        newest += &text;
    }
    assert!(!folder.file("kvm.data.3").exists());
    // Events are sorted within a file only. So a few lines at the file boundaries are in another place.
    let count = newest.lines().count();
    assert!(count > 50_000);
    let expected: Vec<_> = live.lines().rev().take(count).map(without_names).collect();
    let found: Vec<_> = newest.lines().rev().map(without_names).collect();
    let pairs = expected.iter().zip(&found);
    let equal = pairs.filter(|(expected, found)| expected == found).count();
    assert!(equal + 20 > count, "{equal} of {count}");
}

#[test]
fn a_full_file_ends_the_recording() {
    let folder = TemporaryFolder::new();
    let options = RecorderOptions {
        path: Some(folder.file("kvm.data")),
        max_file_bytes: Some(4 << 20),
        ..RecorderOptions::default()
    };
    let mut recorder =
        Recorder::new(options, &recorded_events().0, &HostFacts::default()).expect("a file");
    let batches = batches(400_000);
    let first_rejected = batches
        .iter()
        .position(|it| recorder.record_batch(it).expect("cannot write") == BatchOutcome::FileFull);
    assert!(first_rejected.is_some_and(|it| it > 5));
    let stats = recorder.finish().expect("cannot write");
    assert!(stats.bytes <= 4 << 20, "{stats:?}");
    let (text, summary) = read_lines(&folder.file("kvm.data")).expect("a recording");
    assert!(summary.loss.is_empty());
    assert_eq!(text.lines().count() as u64, stats.events);
}

#[test]
fn the_flight_recorder_stores_the_newest_events() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let options = RecorderOptions {
        path: Some(path.clone()),
        max_files: Some(2),
        flight_recorder: Some(FlightRecorderOptions {
            window_ns: 50_000_000,
            memory_bytes: 64 << 20,
        }),
        ..RecorderOptions::default()
    };
    let mut recorder =
        Recorder::new(options, &recorded_events().0, &HostFacts::default()).expect("a recorder");
    assert!(!path.exists());
    let batches = batches(400_000);
    for batch in &batches {
        recorder.record_batch(batch).expect("cannot write");
        assert!(
            recorder.progress().events < 80_000,
            "{:?}",
            recorder.progress()
        );
    }
    recorder.write_dump().expect("cannot write");
    let (text, summary) = read_lines(&path).expect("a recording");
    assert!(summary.loss.is_empty(), "{summary:?}");
    let live = live_lines(&batches);
    assert!(
        (50_000..80_000).contains(&text.lines().count()),
        "{}",
        text.lines().count()
    );
    // The first lines are events that were queued behind later ones, which were dropped.
    let (_, rest) = text.split_at(text.match_indices('\n').nth(8).expect("lines").0);
    assert!(without_names(&live).ends_with(&without_names(rest)));
    // A dump does not remove events: exits that have started before it may end after it.
    recorder.write_dump().expect("cannot write");
    assert!(folder.file("kvm.data.1").exists());
    assert!(read_lines(&path).expect("a recording").0 == text);
}

/// Returns the permission bits of a file in the folder.
fn mode(folder: &TemporaryFolder, name: &str) -> u32 {
    let status = fs::metadata(folder.file(name)).expect("a file");
    status.permissions().mode() & 0o7777
}

fn names(folder: &TemporaryFolder) -> Vec<String> {
    let entries = fs::read_dir(folder.file("")).expect("a folder");
    let names = entries.map(|it| it.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|it| it.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_existing_file_remains_until_the_recording_begins() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    fs::write(&path, "old").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a file");
    let options = RecorderOptions {
        path: Some(path.clone()),
        ..RecorderOptions::default()
    };
    let (events, facts) = (recorded_events().0, HostFacts::default());
    // The eBPF programs cannot be loaded, for example.
    drop(Recorder::new(options.clone(), &events, &facts).expect("a recorder"));
    assert_eq!(names(&folder), ["kvm.data"]);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "old");
    let mut recorder = Recorder::new(options.clone(), &events, &facts).expect("a recorder");
    assert_eq!(fs::read_to_string(&path).expect("a file"), "old");
    // From here on, the recording is readable, even if the recorder is killed.
    recorder.flush().expect("cannot write");
    assert_eq!(names(&folder), ["kvm.data", "kvm.data.old"]);
    let old = folder.file("kvm.data.old");
    assert_eq!(fs::read_to_string(&old).expect("a file"), "old");
    assert!(read_lines(&path).is_ok());
    recorder.finish().expect("cannot write");
    assert_eq!(mode(&folder, "kvm.data"), 0o600);
    // perf renames the file too, so it keeps its mode.
    assert_eq!(mode(&folder, "kvm.data.old"), 0o644);
    // A disk without space is noticed before the file is renamed.
    let full = RecorderOptions {
        path: Some("/dev/full".into()),
        ..RecorderOptions::default()
    };
    let error = Recorder::new(full, &events, &facts).expect_err("a full disk");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

/// Renaming affects links themselves, not their targets.
#[test]
fn rotation_and_dumps_write_only_new_private_files() {
    let folder = TemporaryFolder::new();
    let shared = folder.file("shared");
    fs::create_dir(&shared).expect("a folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("a folder");
    let target = folder.file("target");
    fs::write(&target, "target").expect("a file");
    let path = shared.join("kvm.data");
    let options = RecorderOptions {
        path: Some(path.clone()),
        max_files: Some(3),
        flight_recorder: Some(FlightRecorderOptions {
            window_ns: 50_000_000,
            memory_bytes: 64 << 20,
        }),
        ..RecorderOptions::default()
    };
    let (events, facts) = (recorded_events().0, HostFacts::default());
    let missing = RecorderOptions {
        path: Some(folder.file("missing/kvm.data")),
        ..options.clone()
    };
    let error = Recorder::new(missing, &events, &facts).expect_err("no folder");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    let mut recorder = Recorder::new(options.clone(), &events, &facts).expect("a recorder");
    for batch in batches(1000) {
        recorder.record_batch(&batch).expect("cannot write");
    }
    // Another user places links while the recorder runs.
    for name in ["kvm.data", "kvm.data.1", "kvm.data.2"] {
        symlink(&target, shared.join(name)).expect("a link");
    }
    for _ in 0..4 {
        recorder.write_dump().expect("cannot write");
    }
    recorder.finish().expect("cannot write");
    assert_eq!(fs::read_to_string(&target).expect("a file"), "target");
    for name in ["kvm.data", "kvm.data.1", "kvm.data.2"] {
        assert!(!shared.join(name).is_symlink(), "{name}");
        assert_eq!(mode(&folder, &format!("shared/{name}")), 0o600, "{name}");
        assert!(read_lines(&shared.join(name)).is_ok(), "{name}");
    }
    // With a link, there is no recording.
    fs::remove_file(&path).expect("a file");
    symlink(&target, &path).expect("a link");
    let error = Recorder::new(options, &events, &facts).expect_err("a link");
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(fs::read_to_string(&target).expect("a file"), "target");
}

/// A link among the files of `--rotate` is not followed, and is replaced.
#[test]
fn a_rotated_file_replaces_a_link() {
    let folder = TemporaryFolder::new();
    fs::write(folder.file("target"), "kept").expect("a file");
    symlink("target", folder.file("kvm.data.1")).expect("a link");
    let options = RecorderOptions {
        max_file_bytes: Some(4 << 20),
        max_files: Some(3),
        ..RecorderOptions::default()
    };
    write_recording(&folder.file("kvm.data"), options, &batches(100_000));
    let target = fs::read_to_string(folder.file("target")).expect("a file");
    assert_eq!(target, "kept");
    let rotated = fs::symlink_metadata(folder.file("kvm.data.1")).expect("a file");
    assert!(rotated.is_file() && rotated.len() > 1 << 20, "{rotated:?}");
    assert!(!folder.file("kvm.data.2").is_symlink());
}

/// A name that older files cannot get is an error before anything is recorded.
#[test]
fn a_directory_is_not_rotated() {
    let folder = TemporaryFolder::new();
    fs::write(folder.file("kvm.data"), "old").expect("a file");
    for (name, max_files) in [("kvm.data.1", Some(3)), ("kvm.data.old", None)] {
        let directory = folder.file(name);
        fs::create_dir(&directory).expect("a folder");
        let options = RecorderOptions {
            path: Some(folder.file("kvm.data")),
            max_files,
            ..RecorderOptions::default()
        };
        let facts = HostFacts::default();
        let error = Recorder::new(options, &recorded_events().0, &facts).expect_err(name);
        let expected = format!("the name {name}, which is a directory");
        assert!(error.to_string().contains(&expected), "{error}");
        fs::remove_dir(&directory).expect("a folder");
    }
    assert_eq!(names(&folder), ["kvm.data"]);
}
