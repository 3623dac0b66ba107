//! Sample recordings, and their text.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    model::{Batch, StreamItem},
    recording::{
        BatchOutcome, HostFacts, ReadError, RecordedEvent, Recorder, RecorderOptions,
        RecordingStats,
    },
    source::{LiveContext, OrderedStream, PlaybackOptions, Recording, RecordingSummary},
    timing::Selection,
    tracefs::Format,
    view::{ItemNames, TraceClock, TraceFormat, TraceLines},
};
use kvm_ebpf_common::THREAD_END_SLOT;

use crate::raw_record::{self, RecordHeader, push_record};

const EVENTS: [(&str, &str); 5] = [
    ("kvm", "kvm_cpuid"),
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_msr"),
    ("kvm", "kvm_pio"),
];

/// Returns the events of the sample recordings, and their formats.
pub(crate) fn recorded_events() -> (Vec<RecordedEvent>, Vec<Format>) {
    raw_record::recorded_events(&EVENTS)
}

/// Process of the events, and its first thread. No real process has this id, so thread names come only from the
/// records of thread ends.
pub(crate) const TGID: u32 = 1 << 30;

/// Time of the first event.
pub(crate) const START_NS: u64 = 5_000_000_000;

/// Creates a batch of `count` events of four threads, 1 us apart and not quite in order. With `has_thread_ends`, the
/// threads end after the events.
pub(crate) fn create_batch(
    formats: &[Format],
    count: u32,
    has_thread_ends: bool,
    from_ns: u64,
) -> Batch {
    let mut bytes = BytesMut::new();
    for index in 0..count {
        let slot = index as usize % formats.len();
        let format = &formats[slot];
        let body: Vec<u8> = (8..format.fixed_size())
            .map(|at| (at * 7 + index as usize).to_le_bytes()[0] & 0x7f)
            .collect();
        let jitter = if index % 7 == 0 { 3_500 } else { 0 };
        let time_ns = from_ns + u64::from(index) * 1000 - jitter;
        let slot = u16::try_from(slot).expect("few");
        let tid = TGID + index % 4;
        let header = RecordHeader {
            time_ns,
            thread: (TGID, tid),
            cpu: u16::try_from(tid % 4).expect("small"),
            slot,
            id: format.id,
        };
        push_record(&mut bytes, header, &body);
    }
    for thread in (0..4).filter(|_| has_thread_ends) {
        let comm = *b"CPU 0/KVM\0\0\0\0\0\0\0";
        let time_ns = from_ns + u64::from(count) * 1000;
        let tid = TGID + thread;
        let header = RecordHeader {
            time_ns,
            thread: (TGID, tid),
            cpu: u16::try_from(tid % 4).expect("small"),
            slot: THREAD_END_SLOT,
            id: 0,
        };
        push_record(&mut bytes, header, &comm);
    }
    Batch::new(bytes.freeze())
}

/// Creates a recorder that writes to a file, without limits.
pub(crate) fn create_recorder(path: &Path) -> Recorder {
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    Recorder::new(options, &recorded_events().0, &HostFacts::default()).expect("a file")
}

/// Writes the batches to a recording.
pub(crate) fn write_recording(
    path: &Path,
    options: RecorderOptions,
    batches: &[Batch],
) -> RecordingStats {
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..options
    };
    let mut recorder =
        Recorder::new(options, &recorded_events().0, &HostFacts::default()).expect("a file");
    for batch in batches {
        assert_eq!(
            recorder.record_batch(batch).expect("cannot write"),
            BatchOutcome::Stored
        );
    }
    recorder.finish().expect("cannot write")
}

/// Reads a recording. Returns one line per event, and the summary.
pub(crate) fn read_lines(path: &Path) -> Result<(String, RecordingSummary), ReadError> {
    let mut recording = Recording::open(path)?;
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let mut lines = TraceLines::new(formats.len(), TraceFormat::Kernel, TraceClock::Mono, false);
    let mut out = Vec::new();
    let summary = recording.play(&PlaybackOptions::default(), |item, context| {
        if let StreamItem::Event(event) = item {
            let names = ItemNames {
                comm: context.names.comm(event.thread()),
                vcpu: None,
                vm_name: &|_| None,
            };
            lines
                .write_event(event, &formats, names, &mut out)
                .expect("memory");
        }
        Ok::<_, ReadError>(())
    })?;
    Ok((String::from_utf8_lossy(&out).into_owned(), summary))
}

/// Returns the lines that a live `trace` writes for the batches.
pub(crate) fn live_lines(batches: &[Batch]) -> String {
    let formats = recorded_events().1;
    let mut lines = TraceLines::new(formats.len(), TraceFormat::Kernel, TraceClock::Mono, false);
    let mut out = Vec::new();
    let mut ordered = OrderedStream::new(&formats, Selection::default());
    for batch in batches {
        ordered.add(batch.clone());
    }
    let each = |item: &StreamItem<'_>, context: LiveContext<'_>| match item {
        StreamItem::Event(event) => {
            let names = ItemNames {
                comm: context.comm,
                vcpu: None,
                vm_name: &|_| None,
            };
            lines.write_event(event, &formats, names, &mut out)
        }
        _ => Ok(()),
    };
    ordered
        .emit_until(u64::MAX, &|_| None, each)
        .expect("memory");
    String::from_utf8_lossy(&out).into_owned()
}

/// Replaces the thread names in lines. In a large recording, the name of a thread is known only when the thread ends, so
/// earlier lines are read without it. Names of real threads are read from `/proc` when the thread appears.
pub(crate) fn without_names(text: &str) -> String {
    text.replace("CPU 0/KVM", "    <...>")
}

/// Creates batches with `count` events. The threads end in the last batch.
pub(crate) fn batches(count: u32) -> Vec<Batch> {
    let formats = recorded_events().1;
    let batch_size = 4_000;
    let last = count.div_ceil(batch_size) - 1;
    (0..=last)
        .map(|number| {
            let from_ns = START_NS + u64::from(number * batch_size) * 1000;
            create_batch(
                &formats,
                batch_size.min(count - number * batch_size),
                number == last,
                from_ns,
            )
        })
        .collect()
}

/// Opens a recording and selects all events.
pub(crate) fn open_recording(path: &Path) -> Recording {
    let mut recording = Recording::open(path).expect("a recording");
    recording.select_events(&recorded_events().1);
    recording
}
