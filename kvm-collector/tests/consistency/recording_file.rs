//! Recordings with given events, losses and thread ends.

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

use crate::{
    raw_event::raw_event,
    raw_record::{self, RecordHeader, push_record},
};

/// The recorded events, by slot. Their formats are from Linux 6.18.
const EVENTS: [(&str, &str); 7] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_msr"),
    ("kvm", "kvm_pio"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_vcpu_wakeup"),
    ("sched", "sched_switch"),
];

/// Process ids that no real process has.
pub(crate) const VM_A: u32 = 1 << 30;
pub(crate) const VM_B: u32 = (1 << 30) + 100;
/// A process that is not a VM.
pub(crate) const OTHER_PROCESS: u32 = (1 << 30) + 200;

/// An item of a recording.
#[derive(Debug, Clone)]
pub(crate) enum RecordedItem {
    /// An event. Fields that are not given are 0.
    Event {
        time_ns: u64,
        thread: (u32, u32),
        name: &'static str,
        fields: Vec<(&'static str, u64)>,
        /// The length to which the record is truncated, without the common fields.
        max_bytes: Option<usize>,
    },
    /// Lost events: of one event type, or of unknown types.
    Lost {
        time_ns: u64,
        name: Option<&'static str>,
        count: u64,
    },
    /// The end of a thread.
    ThreadEnd { time_ns: u64, thread: (u32, u32) },
}

pub(crate) fn event(
    time_ns: u64,
    thread: (u32, u32),
    name: &'static str,
    fields: &[(&'static str, u64)],
) -> RecordedItem {
    RecordedItem::Event {
        time_ns,
        thread,
        name,
        fields: fields.to_vec(),
        max_bytes: None,
    }
}

/// An exit of a vCPU for a reason of SVM.
pub(crate) fn exit(time_ns: u64, thread: (u32, u32), vcpu: u64, reason: u64) -> RecordedItem {
    let fields = [("isa", 2), ("exit_reason", reason), ("vcpu_id", vcpu)];
    event(time_ns, thread, "kvm_exit", &fields)
}

pub(crate) fn entry(time_ns: u64, thread: (u32, u32), vcpu: u64) -> RecordedItem {
    event(time_ns, thread, "kvm_entry", &[("vcpu_id", vcpu)])
}

/// A context switch. The thread that leaves the CPU is runnable or sleeps.
pub(crate) fn switch(time_ns: u64, from: (u32, u32), is_runnable: bool, to: u32) -> RecordedItem {
    let fields = [
        ("prev_pid", from.1.into()),
        ("prev_state", if is_runnable { 0 } else { 1 }),
        ("next_pid", to.into()),
    ];
    event(time_ns, from, "sched_switch", &fields)
}

/// A recording file, which is removed when dropped.
pub(crate) struct RecordingFile(pub(crate) PathBuf);

impl Drop for RecordingFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl RecordingFile {
    pub(crate) fn new(items: &[RecordedItem]) -> Self {
        Self::of_host(&HostFacts::default(), items)
    }

    pub(crate) fn of_host(facts: &HostFacts, items: &[RecordedItem]) -> Self {
        let file = Self::unused();
        let recorder = record(&file.0, facts, items);
        recorder.finish().expect("cannot write");
        file
    }

    /// Writes a recording without `sched_switch`.
    pub(crate) fn without_switches(facts: &HostFacts, items: &[RecordedItem]) -> Self {
        Self::of_events(facts, &EVENTS[..6], items)
    }

    /// Writes a recording without exits and entries.
    pub(crate) fn without_exits(facts: &HostFacts, items: &[RecordedItem]) -> Self {
        Self::of_events(facts, &EVENTS[2..], items)
    }

    /// Writes a recording of these events. Others are left out.
    pub(crate) fn of_events(
        facts: &HostFacts,
        events: &[(&'static str, &'static str)],
        items: &[RecordedItem],
    ) -> Self {
        let file = Self::unused();
        let is_recorded = |it: &&RecordedItem| match it {
            RecordedItem::Event { name, .. } => events.iter().any(|event| event.1 == *name),
            _ => true,
        };
        let items: Vec<_> = items.iter().filter(is_recorded).cloned().collect();
        let recorder = record_events(&file.0, facts, events, &items);
        recorder.finish().expect("cannot write");
        file
    }

    /// Writes a recording as the recorder leaves it when it is killed.
    pub(crate) fn unfinished(items: &[RecordedItem]) -> Self {
        let file = Self::unused();
        let mut recorder = record(&file.0, &HostFacts::default(), items);
        recorder.flush().expect("cannot write");
        std::mem::forget(recorder);
        file
    }

    /// Writes a recording as the recorder writes it to a pipe.
    pub(crate) fn piped(items: &[RecordedItem]) -> Self {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let (file, pipe) = (Self::unused(), Self::unused());
        mknodat(CWD, &pipe.0, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        let path = pipe.0.clone();
        let reader = std::thread::spawn(move || fs::read(path).expect("a FIFO"));
        let recorder = record(&pipe.0, &HostFacts::default(), items);
        recorder.finish().expect("cannot write");
        fs::write(&file.0, reader.join().expect("no panic")).expect("a file");
        file
    }

    /// Returns the path of a file that does not exist yet.
    pub(crate) fn unused() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "kvm-collector-consistency-{}-{number}.data",
            std::process::id()
        );
        Self(std::env::temp_dir().join(name))
    }

    /// Changes the `perf_event_attr` of each event, to imitate recordings of other tools.
    pub(crate) fn change_attrs(&self, change: impl Fn(&mut [u8])) {
        let mut bytes = fs::read(&self.0).expect("a file");
        let read_number = |bytes: &[u8], at: usize| {
            let number = u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            usize::try_from(number).expect("small")
        };
        // Size of an attr with its ids, then offset and size of all attrs, from struct perf_file_header.
        let [attr_size, offset, size] = [16, 24, 32].map(|at| read_number(&bytes, at));
        for attr in bytes[offset..offset + size].chunks_exact_mut(attr_size) {
            change(attr);
        }
        fs::write(&self.0, bytes).expect("a file");
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Starts a recording and writes the items to it.
fn record(path: &Path, facts: &HostFacts, items: &[RecordedItem]) -> Recorder {
    record_events(path, facts, &EVENTS, items)
}

/// Starts a recording of some of the events, and writes the items to it.
fn record_events(
    path: &Path,
    facts: &HostFacts,
    events: &[(&'static str, &'static str)],
    items: &[RecordedItem],
) -> Recorder {
    let (events, formats) = raw_record::recorded_events(events);
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events, facts).expect("a file");
    for item in items {
        match item {
            RecordedItem::Lost {
                time_ns,
                name,
                count,
            } => recorder.record_loss(name.map(|it| slot(&formats, it)), *count, *time_ns),
            item => {
                recorder
                    .record_batch(&batch(item, &formats))
                    .expect("cannot write");
            }
        }
    }
    recorder
}

fn slot(formats: &[Format], name: &str) -> usize {
    let slot = formats.iter().position(|it| it.name == name);
    slot.expect("one of these events")
}

/// Returns the recorded events and their formats.
pub(crate) fn recorded_events() -> (Vec<RecordedEvent>, Vec<Format>) {
    raw_record::recorded_events(&EVENTS)
}

/// Encodes an item as the rings do.
fn batch(item: &RecordedItem, formats: &[Format]) -> Batch {
    let mut bytes = BytesMut::new();
    let mut push = |time_ns: u64, thread: (u32, u32), id: u16, slot: u16, body: &[u8]| {
        let header = RecordHeader {
            time_ns,
            thread,
            cpu: 0,
            slot,
            id,
        };
        push_record(&mut bytes, header, body);
    };
    match item {
        RecordedItem::Event {
            time_ns,
            thread,
            name,
            fields,
            max_bytes,
        } => {
            let slot = slot(formats, name);
            let format = &formats[slot];
            let raw = raw_event(format, fields);
            let body = &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..];
            let body = &body[..max_bytes.unwrap_or(body.len())];
            let slot = u16::try_from(slot).expect("few");
            push(*time_ns, *thread, format.id, slot, body);
        }
        RecordedItem::ThreadEnd { time_ns, thread } => {
            push(
                *time_ns,
                *thread,
                0,
                THREAD_END_SLOT,
                b"CPU 0/KVM\0\0\0\0\0\0\0",
            );
        }
        RecordedItem::Lost { .. } => {}
    }
    Batch::new(bytes.freeze())
}
