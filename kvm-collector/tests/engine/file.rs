//! Recordings that say what a test wants them to say.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::BytesMut;
use kvm_collector::{
    model::Batch,
    recording::{HostFacts, RecordedEvent, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, THREAD_END_SLOT};

/// Events of Linux 6.18, by slot.
const EVENTS: [(&str, &str); 7] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_msr"),
    ("kvm", "kvm_pio"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_vcpu_wakeup"),
    ("sched", "sched_switch"),
];

/// Numbers of processes that no real one has: their names are not looked up.
pub(crate) const VM_A: u32 = 1 << 30;
pub(crate) const VM_B: u32 = (1 << 30) + 100;
/// A process that is no VM.
pub(crate) const OTHER: u32 = (1 << 30) + 200;

/// What is in a recording, in its order.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// An event with some of its fields.
    Event {
        time_ns: u64,
        thread: (u32, u32),
        name: &'static str,
        fields: Vec<(&'static str, u64)>,
        /// The record is cut off behind so many bytes of its own.
        cut: Option<usize>,
    },
    /// Events are lost here: of one kind, or of any.
    Lost {
        time_ns: u64,
        name: Option<&'static str>,
        count: u64,
    },
    /// A thread ends.
    End { time_ns: u64, thread: (u32, u32) },
}

pub(crate) fn event(
    time_ns: u64,
    thread: (u32, u32),
    name: &'static str,
    fields: &[(&'static str, u64)],
) -> Item {
    Item::Event {
        time_ns,
        thread,
        name,
        fields: fields.to_vec(),
        cut: None,
    }
}

/// An exit for a reason of SVM, of a vCPU.
pub(crate) fn exit(time_ns: u64, thread: (u32, u32), vcpu: u64, reason: u64) -> Item {
    let fields = [("isa", 2), ("exit_reason", reason), ("vcpu_id", vcpu)];
    event(time_ns, thread, "kvm_exit", &fields)
}

pub(crate) fn entry(time_ns: u64, thread: (u32, u32), vcpu: u64) -> Item {
    event(time_ns, thread, "kvm_entry", &[("vcpu_id", vcpu)])
}

/// From a thread, ready or not, to another one.
pub(crate) fn switch(time_ns: u64, from: (u32, u32), is_ready: bool, to: u32) -> Item {
    let fields = [
        ("prev_pid", from.1.into()),
        ("prev_state", if is_ready { 0 } else { 1 }),
        ("next_pid", to.into()),
    ];
    event(time_ns, from, "sched_switch", &fields)
}

/// A file that is gone when dropped.
pub(crate) struct File(pub(crate) PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl File {
    pub(crate) fn new(items: &[Item]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvm-collector-engine-{}-{number}.data", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        let (events, formats) = events();
        let options = RecorderOptions {
            path: Some(file.0.clone()),
            ..RecorderOptions::default()
        };
        let mut recorder = Recorder::new(options, &events, &HostFacts::default()).expect("a file");
        for item in items {
            match item {
                Item::Lost {
                    time_ns,
                    name,
                    count,
                } => recorder.record_loss(name.map(slot), *count, *time_ns),
                item => {
                    recorder.record_batch(&batch(item, &formats)).expect("room");
                }
            }
        }
        recorder.finish().expect("room");
        file
    }

    /// Changes something in each event's `perf_event_attr`, as another tool would have written it.
    pub(crate) fn change_attrs(&self, change: impl Fn(&mut [u8])) {
        let mut bytes = fs::read(&self.0).expect("a file");
        let number = |bytes: &[u8], at: usize| {
            let number = u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            usize::try_from(number).expect("small")
        };
        // struct perf_file_header: the size of an attr with its ids, then where they are.
        let (size, from, length) = (number(&bytes, 16), number(&bytes, 24), number(&bytes, 32));
        for attr in bytes[from..from + length].chunks_exact_mut(size) {
            change(attr);
        }
        fs::write(&self.0, bytes).expect("a file");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn slot(name: &str) -> usize {
    let slot = EVENTS.iter().position(|it| it.1 == name);
    slot.expect("one of these events")
}

/// What a recorder is told of the events, and their formats.
pub(crate) fn events() -> (Vec<RecordedEvent>, Vec<Format>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.18-x86_64");
    EVENTS
        .iter()
        .map(|(system, name)| {
            let text = fs::read_to_string(folder.join(system).join(name)).expect("a fixture");
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

/// An item as the rings give it.
fn batch(item: &Item, formats: &[Format]) -> Batch {
    let mut bytes = BytesMut::new();
    let mut push = |time_ns: u64, (tgid, tid): (u32, u32), id: u16, slot: u16, body: &[u8]| {
        let length = u16::try_from(RECORD_HEADER_BYTES + body.len()).expect("short");
        bytes.extend_from_slice(&time_ns.to_ne_bytes());
        bytes.extend_from_slice(&tgid.to_ne_bytes());
        bytes.extend_from_slice(&0u16.to_ne_bytes());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&id.to_ne_bytes());
        bytes.extend_from_slice(&slot.to_ne_bytes());
        bytes.extend_from_slice(&tid.to_ne_bytes());
        bytes.extend_from_slice(body);
    };
    match item {
        Item::Event {
            time_ns,
            thread,
            name,
            fields,
            cut,
        } => {
            let slot = slot(name);
            let format = &formats[slot];
            let mut raw = vec![0; format.fixed_size()];
            for (name, value) in fields {
                let field = format.field(name).expect("a field");
                raw[field.offset..field.offset + field.size]
                    .copy_from_slice(&value.to_ne_bytes()[..field.size]);
            }
            let body = &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..];
            let body = &body[..cut.unwrap_or(body.len())];
            let slot = u16::try_from(slot).expect("few");
            push(*time_ns, *thread, format.id, slot, body);
        }
        Item::End { time_ns, thread } => {
            push(
                *time_ns,
                *thread,
                0,
                THREAD_END_SLOT,
                b"CPU 0/KVM\0\0\0\0\0\0\0",
            );
        }
        Item::Lost { .. } => {}
    }
    Batch::new(bytes.freeze())
}
