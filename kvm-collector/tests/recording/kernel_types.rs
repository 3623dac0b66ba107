//! A recording stores the types of its kernel that the print formats of its events use.

use std::path::Path;

use kvm_collector::{
    recording::{HostFacts, Recorder, RecorderOptions},
    source::Recording,
    tracefs::kernel_types::KernelTypeTable,
};

use crate::raw_record;
use crate::temporary_folder::TemporaryFolder;

const EVENTS: [(&str, &str); 2] = [("kvm", "kvm_pio"), ("kvm", "kvm_track_tsc")];

fn kernel_types() -> KernelTypeTable {
    KernelTypeTable::from_text(include_str!("../fixtures/formats/6.18-x86_64/types.txt"))
}

fn create_recorder(path: &Path, kernel_types: KernelTypeTable) -> Recorder {
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let facts = HostFacts {
        kernel_types,
        ..HostFacts::default()
    };
    let events = raw_record::recorded_events(&EVENTS).0;
    Recorder::new(options, &events, &facts).expect("a file")
}

/// Returns the warnings of the events of a recording.
fn print_warnings(path: &Path) -> Vec<String> {
    let recording = Recording::open(path).expect("a recording");
    let formats = recording.formats().iter();
    formats
        .filter_map(|it| it.print_warning().map(ToOwned::to_owned))
        .collect()
}

#[test]
fn a_finished_recording_has_the_types_of_its_kernel() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let recorder = create_recorder(&path, kernel_types());
    recorder.finish().expect("cannot write");
    let recording = Recording::open(&path).expect("a recording");
    assert_eq!(recording.metadata().kernel_types, kernel_types());
    assert_eq!(print_warnings(&path), [""; 0]);
}

#[test]
fn a_killed_recording_has_the_types_of_its_kernel() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let mut recorder = create_recorder(&path, kernel_types());
    recorder.flush().expect("cannot write");
    // Nothing more is written, as after a SIGKILL.
    std::mem::forget(recorder);
    assert_eq!(print_warnings(&path), [""; 0]);
}

#[test]
fn a_recording_without_types_says_what_is_not_printed_like_the_kernel() {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    let recorder = create_recorder(&path, KernelTypeTable::default());
    recorder.finish().expect("cannot write");
    let warnings = print_warnings(&path);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("kvm:kvm_track_tsc is shown as name=value"),
        "{warnings:?}"
    );
}
