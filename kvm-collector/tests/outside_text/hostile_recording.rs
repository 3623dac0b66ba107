//! A recording whose names and formats contain everything that text output must not contain.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    host::machine::Machine,
    model::{Batch, ThreadId},
    recording::{HostFacts, RecordedEvent, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET};

use crate::{
    raw_event::raw_event,
    raw_record::{RecordHeader, push_record, recorded_events},
};

/// Processes of two VMs with the same name. No real process has these ids.
pub(crate) const TGIDS: [u32; 2] = [1 << 30, (1 << 30) + 100];

/// What a hostile name begins with: a formula, sequences that a terminal executes, a false line, reversed and hidden text.
pub(crate) const HOSTILE: &str = "=cmd\x1b[2J\x1b]0;t\x07\u{9b}41m\r\nFAKE\t\u{202e}gnp\u{2066}\u{200b}\u{feff}\u{2028}\u{e0041}\x7f";

/// Returns the name of both VMs, which has more than 4 KB.
pub(crate) fn vm_name() -> String {
    format!("{HOSTILE}{}", "x".repeat(4096))
}

/// Replaces a part of a format file.
fn replace(event: &mut RecordedEvent, from: &str, to: &str) {
    assert!(event.format.contains(from), "{from}");
    event.format = event.format.replace(from, to);
}

/// Returns the events, whose formats print hostile text, and an event with a hostile name.
fn hostile_events() -> (Vec<RecordedEvent>, Vec<Format>) {
    let names = ["kvm_entry", "kvm_exit", "kvm_pio", "kvm_msr"];
    let (mut events, _) = recorded_events(&names.map(|name| ("kvm", name)));
    replace(
        &mut events[1],
        "\"hlt\"",
        "\"h\\033[2J\\r\\nFAKE\u{202e}lt\"",
    );
    replace(
        &mut events[2],
        "\"pio_%s at",
        "\"\\033[2J\u{202e}\\nFAKE \\x9b pio_%s at",
    );
    events[3].name = "kvm_\x1b[2J\u{202e}".into();
    replace(&mut events[3], "name: kvm_msr", "name: kvm_\x1b[2J\u{202e}");
    let formats = events.iter().map(|it| Format::parse("kvm", &it.format));
    let formats = formats.collect::<Result<_, _>>().expect("formats");
    (events, formats)
}

/// Writes a recording of two VMs with the same name.
pub(crate) fn write_recording(path: &Path) {
    let (events, formats) = hostile_events();
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let facts = HostFacts {
        machine: Machine {
            hostname: HOSTILE.into(),
            release: HOSTILE.into(),
            arch: "x86_64".into(),
            cpus: (8, 8),
            cpu_id: Some("AuthenticAMD,25,17,1".into()),
            cpu_desc: Some(HOSTILE.into()),
            ..Machine::default()
        },
        command: [HOSTILE, "record", "--vm", HOSTILE, "-e", HOSTILE]
            .map(str::to_owned)
            .to_vec(),
        clocks: (1_760_000_000_000_000_000, 5_000_000_000),
        ..HostFacts::default()
    };
    let mut recorder = Recorder::new(options, &events, &facts).expect("a file");
    for tgid in TGIDS {
        recorder.set_vm_name(tgid, vm_name());
        for tid in [tgid, tgid + 1] {
            recorder.set_thread_name(ThreadId { tgid, tid }, HOSTILE.into());
        }
    }
    let mut bytes = BytesMut::new();
    let mut time_ns = 5_000_000_000;
    for number in 0..40 {
        let tgid = TGIDS[number % 2];
        let reason = [0x78, 0x7b][number / 2 % 2];
        let id = ("vcpu_id", 0);
        let records: [(u16, &[(&str, u64)]); 4] = [
            (1, &[id, ("isa", 2), ("exit_reason", reason)]),
            (2, &[("port", 0x3f8), ("rw", 1)]),
            (3, &[("ecx", 0x10), ("write", 1)]),
            (0, &[id]),
        ];
        for (slot, fields) in records {
            let format = &formats[usize::from(slot)];
            time_ns += 1_000_000;
            let header = RecordHeader {
                time_ns,
                thread: (tgid, tgid + 1),
                cpu: 0,
                slot,
                id: format.id,
            };
            let raw = raw_event(format, fields);
            let body = &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..];
            push_record(&mut bytes, header, body);
        }
    }
    let batch = Batch::new(bytes.freeze());
    recorder.record_batch(&batch).expect("cannot write");
    recorder.record_loss(Some(3), 5, time_ns);
    recorder.finish().expect("cannot write");
}
