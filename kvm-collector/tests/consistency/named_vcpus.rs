//! In recordings of arm64, only the names of threads tell the vCPUs. All commands know and select them.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    model::{Batch, ThreadId},
    recording::{HostFacts, RecordedEvent, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET};
use serde_json::json;

use crate::{
    collector::{report, run},
    raw_event::raw_event,
    raw_record::{RecordHeader, push_record},
    recording_file::{RecordingFile, VM_A},
};

const NAMES: [&str; 3] = ["CPU 0/KVM", "CPU 1/KVM", "worker"];

/// Returns a recording in which the thread with index N has N + 2 exits, all but one with an entry.
fn recording() -> RecordingFile {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.12-arm64/kvm");
    let events = ["kvm_exit", "kvm_entry"].map(|name| {
        let text = std::fs::read_to_string(folder.join(name)).expect("a fixture");
        let format = Format::parse("kvm", &text).expect("a format");
        let event = RecordedEvent {
            system: "kvm".into(),
            name: name.into(),
            id: format.id,
            format: text,
        };
        (event, format)
    });
    let formats = events.clone().map(|it| it.1);
    let file = RecordingFile::unused();
    let options = RecorderOptions {
        path: Some(file.path().to_owned()),
        ..RecorderOptions::default()
    };
    let events = events.map(|it| it.0);
    let mut recorder = Recorder::new(options, &events, &HostFacts::default()).expect("a file");
    let mut bytes = BytesMut::new();
    for (index, name) in (0..).zip(NAMES) {
        let (tgid, tid) = (VM_A, VM_A + 1 + index);
        recorder.set_thread_name(ThreadId { tgid, tid }, name.to_owned());
        for number in 0..u64::from(2 * index + 3) {
            let slot = usize::from(number % 2 == 1);
            let header = RecordHeader {
                time_ns: 1000 * u64::from(index) + 10 * number + 1,
                thread: (tgid, tid),
                cpu: 0,
                slot: u16::try_from(slot).expect("small"),
                id: formats[slot].id,
            };
            let raw = raw_event(&formats[slot], &[]);
            push_record(
                &mut bytes,
                header,
                &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..],
            );
        }
    }
    recorder
        .record_batch(&Batch::new(bytes.freeze()))
        .expect("cannot write");
    recorder.finish().expect("cannot write");
    file
}

#[test]
fn vcpus_are_known_by_the_names_of_threads() {
    let file = recording();
    let exits = report(&file, &["exits", "--json", "--by", "vcpu"]);
    assert_eq!(exits["vcpus_from_thread_names"], true);
    let rows = exits["rows"].as_array().expect("rows");
    let mut vcpus: Vec<_> = rows
        .iter()
        .map(|it| (it["count"].as_u64(), it["vcpu"].as_u64()))
        .collect();
    vcpus.sort_unstable();
    assert_eq!(
        vcpus,
        [(Some(2), Some(0)), (Some(3), Some(1)), (Some(4), None)]
    );

    let selected = report(&file, &["exits", "--json", "--vcpu", "1"]);
    assert_eq!(
        (&selected["count"], &selected["loss"]["unattributed"]),
        (&json!(3), &json!(7))
    );
    let stat = report(&file, &["stat", "--json", "--vcpu", "1"]);
    assert_eq!(stat["events"][1]["count"], 3, "{stat}");
    assert_eq!(stat["vcpus_from_thread_names"], true);
    // Without a selection there are no vCPU numbers in it.
    let stat = report(&file, &["stat", "--json"]);
    assert_eq!(stat.get("vcpus_from_thread_names"), None);

    let text = |args: &[&str]| String::from_utf8(run(&file, args).stdout).expect("text");
    assert_eq!(text(&["trace", "--vcpu", "1", "-q"]).lines().count(), 5);
    assert_eq!(text(&["trace", "--vcpu", "0-1", "-q"]).lines().count(), 8);
    let heading = "vCPU numbers from thread names";
    assert!(text(&["exits"]).contains(heading));
    assert!(text(&["stat", "--vcpu", "1"]).contains(heading));
    assert!(!text(&["stat"]).contains(heading));
    assert!(text(&["top", "--once"]).contains(heading));
    let summary = |args: &[&str]| String::from_utf8(run(&file, args).stderr).expect("text");
    assert!(summary(&["trace", "--per-exit"]).contains(heading));
    assert!(!summary(&["trace"]).contains(heading));
    let vms = text(&["list", "vms"]);
    assert!(vms.contains("vCPU 0") && vms.contains("vCPU 1"), "{vms}");
}
