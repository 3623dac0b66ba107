//! Records, as the eBPF programs write them to the rings.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{recording::RecordedEvent, tracefs::Format};
use kvm_ebpf_common::RECORD_HEADER_BYTES;

/// What a record says besides its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHeader {
    pub(crate) time_ns: u64,
    /// Ids of the process and of the thread.
    pub(crate) thread: (u32, u32),
    pub(crate) cpu: u16,
    pub(crate) slot: u16,
    /// Id of the event type.
    pub(crate) id: u16,
}

/// Appends a record. `body` is the raw event without its first bytes, which the header replaces.
pub(crate) fn push_record(bytes: &mut BytesMut, header: RecordHeader, body: &[u8]) {
    let RecordHeader {
        time_ns,
        thread: (tgid, tid),
        cpu,
        slot,
        id,
    } = header;
    let length = u16::try_from(RECORD_HEADER_BYTES + body.len()).expect("short");
    bytes.extend_from_slice(&time_ns.to_ne_bytes());
    bytes.extend_from_slice(&tgid.to_ne_bytes());
    bytes.extend_from_slice(&cpu.to_ne_bytes());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&slot.to_ne_bytes());
    bytes.extend_from_slice(&tid.to_ne_bytes());
    bytes.extend_from_slice(body);
}

/// Returns events of Linux 6.18, given by system and name, and their formats.
pub(crate) fn recorded_events(events: &[(&str, &str)]) -> (Vec<RecordedEvent>, Vec<Format>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.18-x86_64");
    events
        .iter()
        .map(|(system, name)| {
            let text = std::fs::read_to_string(folder.join(system).join(name)).expect("a fixture");
            let format = Format::parse(system, &text).expect("a format");
            let event = RecordedEvent {
                system: (*system).into(),
                name: (*name).into(),
                id: format.id,
                format: text,
            };
            (event, format)
        })
        .unzip()
}
