//! Recordings of a few exits, for tests of messages.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    model::Batch,
    recording::{HostFacts, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET};

use crate::{
    raw_event::raw_event,
    raw_record::{RecordHeader, push_record, recorded_events},
};

const EVENTS: [(&str, &str); 3] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_pio"),
];

/// A process id that no real process has.
pub(crate) const TGID: u32 = 1 << 30;

/// Writes a recording of 20 exits of vCPU 0 with the reason `hlt` of SVM.
pub(crate) fn write_recording(path: &Path) {
    let entry = (0, vec![("vcpu_id", 0)]);
    let exit = (1, vec![("vcpu_id", 0), ("isa", 2), ("exit_reason", 0x78)]);
    let events = (0..40).map(|number| [entry.clone(), exit.clone()][number % 2].clone());
    write_events(path, &EVENTS[..2], "", events.collect());
}

/// Writes a recording of an AMD host: 30 exits of vCPU 0, 20 with the reason `hlt` and 10 with the reason `io`,
/// and a port access in each `io`. Each exit takes 1 us.
pub(crate) fn write_mixed_recording(path: &Path) {
    let mut events = Vec::new();
    for number in 0..30 {
        let is_io = number % 3 == 2;
        let reason = if is_io { 0x7b } else { 0x78 };
        events.push((0, vec![("vcpu_id", 0)]));
        events.push((1, vec![("vcpu_id", 0), ("isa", 2), ("exit_reason", reason)]));
        if is_io {
            events.push((2, vec![("port", 0x3f8), ("rw", 1)]));
        }
    }
    events.push((0, vec![("vcpu_id", 0)]));
    write_events(path, &EVENTS, "AuthenticAMD,25,17,1", events);
}

/// Writes a recording of kvm_exit and kvm_entry without any event.
pub(crate) fn write_empty_recording(path: &Path) {
    write_events(path, &EVENTS[..2], "", Vec::new());
}

/// Writes a recording of port accesses outside of exits.
pub(crate) fn write_recording_without_exits(path: &Path) {
    let access = (2, vec![("port", 0x3f8), ("rw", 1)]);
    write_events(path, &EVENTS, "", vec![access; 3]);
}

/// Writes a recording of two exits of which no entry follows the first one.
pub(crate) fn write_untimed_exits(path: &Path) {
    let exit = (1, vec![("vcpu_id", 0), ("isa", 2), ("exit_reason", 0x78)]);
    write_events(path, &EVENTS[..2], "", vec![exit; 2]);
}

/// Writes events, each with the index in `names` and its fields.
fn write_events(
    path: &Path,
    names: &[(&'static str, &'static str)],
    cpu_id: &str,
    recorded: Vec<(u16, Vec<(&str, u64)>)>,
) {
    let (events, formats) = recorded_events(names);
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let mut facts = HostFacts::default();
    facts.machine.cpu_id = (!cpu_id.is_empty()).then(|| cpu_id.to_owned());
    let recorder = Recorder::new(options, &events, &facts).expect("a file");
    record(recorder, &formats, recorded);
}

/// Records events with these formats, each with the index of its format and its fields, and finishes the recording.
pub(crate) fn record(
    mut recorder: Recorder,
    formats: &[Format],
    recorded: Vec<(u16, Vec<(&str, u64)>)>,
) {
    let mut bytes = BytesMut::new();
    for (number, (slot, fields)) in recorded.into_iter().enumerate() {
        let format = &formats[usize::from(slot)];
        let header = RecordHeader {
            time_ns: 5_000_000_000 + number as u64 * 1000,
            thread: (TGID, TGID),
            cpu: 0,
            slot,
            id: format.id,
        };
        let raw = raw_event(format, &fields);
        push_record(
            &mut bytes,
            header,
            &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..],
        );
    }
    let batch = Batch::new(bytes.freeze());
    recorder.record_batch(&batch).expect("cannot write");
    recorder.finish().expect("cannot write");
}
