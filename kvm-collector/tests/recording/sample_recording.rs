//! Sample recordings, and their text.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::BytesMut;
use kvm_collector::{
    model::{Batch, StreamItem},
    recording::{
        BatchOutcome, HostFacts, ReadError, RecordedEvent, Recorder, RecorderOptions,
        RecordingStats,
    },
    source::{OrderedStream, PlaybackOptions, Recording, RecordingSummary},
    timing::Selection,
    tracefs::Format,
    view::{TraceClock, TraceFormat, TraceLines},
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, THREAD_END_SLOT};

/// A temporary folder, which is removed when dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvm-collector-recording-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the events of the sample recordings, from Linux 6.18, and their formats. They are ordered by name.
pub(crate) fn recorded_events() -> (Vec<RecordedEvent>, Vec<Format>) {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.18-x86_64/kvm");
    let mut events = Vec::new();
    for name in ["kvm_cpuid", "kvm_entry", "kvm_exit", "kvm_msr", "kvm_pio"] {
        let text = fs::read_to_string(folder.join(name)).expect("a format");
        let id = Format::parse("kvm", &text).expect("a format").id;
        events.push(RecordedEvent {
            system: "kvm".into(),
            name: name.into(),
            id,
            format: text,
        });
    }
    let formats = events
        .iter()
        .map(|it| Format::parse("kvm", &it.format).expect("a format"));
    let formats = formats.collect();
    (events, formats)
}

fn push_record(
    bytes: &mut BytesMut,
    time_ns: u64,
    (tgid, tid): (u32, u32),
    slot: u16,
    id: u16,
    body: &[u8],
) {
    let length = u16::try_from(RECORD_HEADER_BYTES + body.len()).expect("short");
    bytes.extend_from_slice(&time_ns.to_ne_bytes());
    bytes.extend_from_slice(&tgid.to_ne_bytes());
    bytes.extend_from_slice(&u16::try_from(tid % 4).expect("small").to_ne_bytes());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&id.to_ne_bytes());
    bytes.extend_from_slice(&slot.to_ne_bytes());
    bytes.extend_from_slice(&tid.to_ne_bytes());
    bytes.extend_from_slice(body);
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
        push_record(
            &mut bytes,
            time_ns,
            (TGID, TGID + index % 4),
            slot,
            format.id,
            &body,
        );
    }
    for thread in (0..4).filter(|_| has_thread_ends) {
        let comm = *b"CPU 0/KVM\0\0\0\0\0\0\0";
        let time_ns = from_ns + u64::from(count) * 1000;
        push_record(
            &mut bytes,
            time_ns,
            (TGID, TGID + thread),
            THREAD_END_SLOT,
            0,
            &comm,
        );
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
            let comm = context.names.comm(event.thread());
            lines
                .write_event(event, &formats, comm, &mut out)
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
    let each = |item: &StreamItem<'_>, comm: &str| match item {
        StreamItem::Event(event) => lines.write_event(event, &formats, comm, &mut out),
        _ => Ok(()),
    };
    ordered
        .emit_until(u64::MAX, &|_| None, each)
        .expect("memory");
    String::from_utf8_lossy(&out).into_owned()
}

/// Replaces the thread names in lines. In a large recording, the name of a thread is known only at its end, and earlier
/// lines were read without it. Names of real threads are read from `/proc` when the thread appears.
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
