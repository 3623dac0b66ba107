//! Recordings without a kernel: what goes in comes out, and what is damaged never passes for whole.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use bytes::{Bytes, BytesMut};
use kvm_collector::{
    model::{Batch, StreamItem},
    recording::{
        BatchOutcome, FlightRecorderOptions, HostFacts, ReadError, Reader, RecordedEvent, Recorder,
        RecorderOptions,
    },
    source::{OrderedStream, PlaybackOptions, Recording, RecordingSummary, TimeLimits},
    timing::Selection,
    tracefs::Format,
    view::{TraceClock, TraceFormat, TraceLines},
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, THREAD_END_SLOT};

/// A folder that is gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvm-collector-recording-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Some of Linux 6.18's events, in the order of their names.
fn events() -> (Vec<RecordedEvent>, Vec<Format>) {
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

fn push(
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

/// Nobody has such a number: names come from what the ring says of ended threads.
const TID: u32 = 1 << 30;

const TIME_NS: u64 = 5_000_000_000;

/// A batch of so many events of four threads, not quite in order, 1 us apart; with `ends`, the threads end after them.
fn batch(formats: &[Format], count: u32, ends: bool, from_ns: u64) -> Batch {
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
        push(
            &mut bytes,
            time_ns,
            (TID, TID + index % 4),
            slot,
            format.id,
            &body,
        );
    }
    for thread in (0..4).filter(|_| ends) {
        let comm = *b"CPU 0/KVM\0\0\0\0\0\0\0";
        let time_ns = from_ns + u64::from(count) * 1000;
        push(
            &mut bytes,
            time_ns,
            (TID, TID + thread),
            THREAD_END_SLOT,
            0,
            &comm,
        );
    }
    Batch::new(bytes.freeze())
}

fn record(
    path: &Path,
    options: RecorderOptions,
    batches: &[Batch],
) -> kvm_collector::recording::RecordingStats {
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..options
    };
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("a file");
    for batch in batches {
        assert_eq!(
            recorder.record_batch(batch).expect("room"),
            BatchOutcome::Stored
        );
    }
    recorder.finish().expect("room")
}

/// All lines of a recording, and how it ended.
fn lines(path: &Path) -> Result<(String, RecordingSummary), ReadError> {
    let mut recording = Recording::open(path)?;
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let mut lines = TraceLines::new(formats.len(), TraceFormat::Kernel, TraceClock::Mono, false);
    let mut out = Vec::new();
    let ended = recording.play(&PlaybackOptions::default(), |played, context| {
        if let StreamItem::Event(event) = played {
            let comm = context.names.comm(event.thread());
            lines
                .write_event(event, &formats, comm, &mut out)
                .expect("memory");
        }
        Ok::<_, ReadError>(())
    })?;
    Ok((String::from_utf8_lossy(&out).into_owned(), ended))
}

/// The lines that `trace` writes of the same batches.
fn live_lines(batches: &[Batch]) -> String {
    let formats = events().1;
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

/// Of a thread that lives on for longer than a round, and yet cannot be asked for its name, a recording does not know it in
/// time. Real ones can be asked.
fn without_names(text: &str) -> String {
    text.replace("CPU 0/KVM", "    <...>")
}

fn batches(count: u32) -> Vec<Batch> {
    let formats = events().1;
    let each = 4_000;
    let last = count.div_ceil(each) - 1;
    (0..=last)
        .map(|number| {
            let from_ns = TIME_NS + u64::from(number * each) * 1000;
            batch(
                &formats,
                each.min(count - number * each),
                number == last,
                from_ns,
            )
        })
        .collect()
}

#[test]
fn a_recording_of_nothing_is_whole() {
    let folder = Folder::new();
    for zstd in [None, Some(1)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        let recorded = record(&path, options, &[]);
        assert_eq!(recorded.events, 0);
        assert_eq!(recorded.bytes, fs::metadata(&path).expect("a file").len());
        let (text, ended) = lines(&path).expect("a recording");
        assert!(text.is_empty(), "{text}");
        assert!(ended.loss.is_empty() && ended.defect.is_none(), "{ended:?}");
    }
}

#[test]
fn a_recording_gives_what_trace_gives_live() {
    let folder = Folder::new();
    // More than a round, and more than is written at a time.
    let batches = batches(250_000);
    let live = live_lines(&batches);
    assert!(live.contains("CPU 0/KVM-1073741824"), "{}", &live[..200]);
    for zstd in [None, Some(1), Some(9)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        let recorded = record(&path, options, &batches);
        assert_eq!(recorded.events, 250_000);
        assert_eq!(recorded.bytes, fs::metadata(&path).expect("a file").len());
        let (text, ended) = lines(&path).expect("a recording");
        assert!(
            ended.loss.is_empty() && ended.defect.is_none() && ended.loss.late == 0,
            "{ended:?}"
        );
        assert!(
            without_names(&text) == without_names(&live),
            "not the same lines with {zstd:?}"
        );
    }
}

#[test]
fn a_recording_that_was_killed_is_read_up_to_its_last_write() {
    let folder = Folder::new();
    let batches = batches(10_000);
    let path = folder.file("kvm.data");
    let options = RecorderOptions {
        path: Some(path.clone()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("a file");
    for batch in &batches {
        recorder.record_batch(batch).expect("room");
    }
    recorder.flush().expect("room");
    // As a kill does it: nothing more is written.
    std::mem::forget(recorder);
    let (text, ended) = lines(&path).expect("a recording");
    assert!(without_names(&text) == without_names(&live_lines(&batches)));
    assert_eq!(ended.loss.damaged, 1);
    assert!(ended.defect.expect("it says so").contains("not finished"));
}

#[test]
fn threads_have_the_names_they_had_when_they_ended() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    let batches = batches(400);
    record(&path, RecorderOptions::default(), &batches);
    let (text, _) = lines(&path).expect("a recording");
    assert!(text == live_lines(&batches));
    assert!(text.lines().all(|line| line.contains("CPU 0/KVM-10737418")));
}

#[test]
fn losses_are_in_the_file() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    let options = RecorderOptions {
        path: Some(path.clone()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("a file");
    let batch = batch(&events().1, 10, true, TIME_NS);
    recorder.record_batch(&batch).expect("room");
    recorder.record_loss(Some(2), 40, TIME_NS + 1_000_000);
    recorder.record_loss(None, 2, TIME_NS + 2_000_000);
    recorder.finish().expect("room");
    let mut recording = Recording::open(&path).expect("a recording");
    let formats = recording.formats().to_vec();
    recording.select_events(&formats);
    let mut lost = Vec::new();
    let ended = recording
        .play(&PlaybackOptions::default(), |played, _| {
            if let StreamItem::Lost {
                slot,
                count: number,
                ..
            } = played
            {
                lost.push((slot.map(|it| formats[it].name.clone()), *number));
            }
            Ok::<_, ReadError>(())
        })
        .expect("readable");
    assert_eq!(lost, [(Some("kvm_exit".to_owned()), 40), (None, 2)]);
    assert_eq!(ended.loss.lost, 42);
}

#[test]
fn files_are_no_longer_than_asked_for_and_as_many_as_asked_for() {
    const MOST: u64 = 4 << 20;
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    let batches = batches(400_000);
    let options = RecorderOptions {
        max_file_bytes: Some(MOST),
        max_files: Some(3),
        ..RecorderOptions::default()
    };
    let recorded = record(&path, options, &batches);
    assert_eq!(recorded.events, 400_000);
    assert!(recorded.files > 4, "{recorded:?}");
    let live = live_lines(&batches);
    let mut newest = String::new();
    for name in ["kvm.data.2", "kvm.data.1", "kvm.data"] {
        let file = folder.file(name);
        let length = fs::metadata(&file).expect("a file").len();
        assert!(length <= MOST && length > MOST / 2, "{name}: {length}");
        let (text, ended) = lines(&file).expect("a recording");
        assert!(ended.loss.is_empty(), "{name}: {ended:?}");
        newest += &text;
    }
    assert!(!folder.file("kvm.data.3").exists());
    // In each file the order is its own, so that at its borders some are elsewhere.
    let count = newest.lines().count();
    assert!(count > 50_000);
    let tail: Vec<_> = live.lines().rev().take(count).map(without_names).collect();
    let found: Vec<_> = newest.lines().rev().map(without_names).collect();
    let same = tail.iter().zip(&found).filter(|(a, b)| a == b).count();
    assert!(same + 20 > count, "{same} of {count}");
}

#[test]
fn a_full_file_ends_the_recording() {
    let folder = Folder::new();
    let options = RecorderOptions {
        path: Some(folder.file("kvm.data")),
        max_file_bytes: Some(4 << 20),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("a file");
    let batches = batches(400_000);
    let full = batches
        .iter()
        .position(|it| recorder.record_batch(it).expect("room") == BatchOutcome::FileFull);
    assert!(full.is_some_and(|it| it > 5));
    let recorded = recorder.finish().expect("room");
    assert!(recorded.bytes <= 4 << 20, "{recorded:?}");
    let (text, ended) = lines(&folder.file("kvm.data")).expect("a recording");
    assert!(ended.loss.is_empty());
    assert_eq!(text.lines().count() as u64, recorded.events);
}

#[test]
fn the_flight_recorder_keeps_what_was_last() {
    let folder = Folder::new();
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
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("no file");
    assert!(!path.exists());
    let batches = batches(400_000);
    for batch in &batches {
        recorder.record_batch(batch).expect("room");
        assert!(
            recorder.progress().events < 80_000,
            "{:?}",
            recorder.progress()
        );
    }
    recorder.write_dump().expect("room");
    let (text, ended) = lines(&path).expect("a recording");
    assert!(ended.loss.is_empty(), "{ended:?}");
    let live = live_lines(&batches);
    assert!(
        (50_000..80_000).contains(&text.lines().count()),
        "{}",
        text.lines().count()
    );
    // At its beginning are events that were queued behind later ones, which are gone.
    let (_, after) = text.split_at(text.match_indices('\n').nth(8).expect("lines").0);
    assert!(without_names(&live).ends_with(&without_names(after)));
    // What began before may end after it: it stays.
    recorder.write_dump().expect("room");
    assert!(folder.file("kvm.data.1").exists());
    assert!(lines(&path).expect("a recording").0 == text);
}

/// A small recording, finished or as a stream, compressed or not.
fn small(folder: &Folder, zstd: Option<i32>, finished: bool) -> Vec<u8> {
    let path = folder.file("small");
    let options = RecorderOptions {
        path: Some(path.clone()),
        zstd_level: zstd,
        ..RecorderOptions::default()
    };
    let (events, formats) = events();
    let mut recorder = Recorder::new(options, &events[4..], &HostFacts::default()).expect("a file");
    recorder
        .record_batch(&batch(&formats[4..], 40, true, TIME_NS))
        .expect("room");
    recorder.flush().expect("room");
    if finished {
        recorder.finish().expect("room");
    } else {
        std::mem::forget(recorder);
    }
    fs::read(path).expect("a file")
}

fn lines_of(folder: &Folder, bytes: &[u8]) -> Result<(String, RecordingSummary), ReadError> {
    let path = folder.file("damaged");
    File::create(&path)
        .and_then(|mut it| it.write_all(bytes))
        .expect("room");
    lines(&path)
}

#[test]
fn every_truncation_is_an_error_or_said_to_be_partial() {
    let folder = Folder::new();
    for (zstd, finished) in [
        (None, true),
        (None, false),
        (Some(1), true),
        (Some(1), false),
    ] {
        let bytes = small(&folder, zstd, finished);
        let (whole, ended) = lines_of(&folder, &bytes).expect("whole");
        assert_eq!(whole.lines().count(), 40);
        assert_eq!(ended.loss.damaged, u64::from(!finished));
        let mut partial = 0;
        // Every length; of the compressed ones, whose beginning is the same, some, to save time.
        let step = if zstd.is_some() { 29 } else { 1 };
        for length in (0..bytes.len()).step_by(step) {
            if let Ok((text, ended)) = lines_of(&folder, &bytes[..length]) {
                assert!(
                    ended.loss.damaged > 0 && ended.defect.is_some(),
                    "{length}: {ended:?}"
                );
                assert!(text.lines().count() <= 40);
                partial += usize::from(!text.is_empty());
            }
        }
        assert!(zstd.is_some() || partial > 1_000, "{partial}");
    }
}

#[test]
fn flipped_bits_never_panic_or_add_events() {
    let folder = Folder::new();
    for zstd in [None, Some(1)] {
        let bytes = small(&folder, zstd, true);
        let mut damaged = bytes.clone();
        // A bit of each byte that is near the start and the end, and of the rest one here and there.
        let near = |at: usize| at < 300 || at + 1_200 > bytes.len();
        for at in (0..bytes.len()).filter(|at| near(*at) || at % 499 == 0) {
            let bit = at % 8;
            damaged[at] ^= 1 << bit;
            if let Ok((text, _)) = lines_of(&folder, &damaged) {
                assert!(text.lines().count() <= 40, "bit {bit} of byte {at}");
            }
            damaged[at] = bytes[at];
        }
    }
}

#[test]
fn what_is_no_recording_is_an_error_that_says_so() {
    let folder = Folder::new();
    let error = |bytes: &[u8]| {
        lines_of(&folder, bytes)
            .map(|it| it.0)
            .unwrap_err()
            .to_string()
    };
    assert!(error(b"").contains("it has only 0 bytes"));
    assert!(error(b"hello, world! what a nice day it is").contains("does not start with PERFILE2"));
    let mut swapped = small(&folder, None, true);
    swapped[..8].reverse();
    assert!(error(&swapped).contains("-endian machine"));
    // Headers that promise more than any machine has.
    let whole = small(&folder, None, true);
    for at in [16, 24, 32, 40, 48] {
        let mut huge = whole.clone();
        huge[at..at + 8].copy_from_slice(&(u64::MAX / 3).to_ne_bytes());
        match lines_of(&folder, &huge) {
            Err(error) => assert!(error.to_string().contains("is malformed"), "{error}"),
            Ok((_, ended)) => assert!(ended.loss.damaged > 0, "{at}"),
        }
    }
    assert!(matches!(
        lines(&folder.file("nowhere")),
        Err(ReadError::Io { .. })
    ));
}

#[test]
fn batches_that_make_no_sense_are_left_out() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    for bytes in [&[][..], &[1; 10], &[0; 64], &[24; 64]] {
        let recorded = record(
            &path,
            RecorderOptions::default(),
            &[Batch::new(Bytes::copy_from_slice(bytes))],
        );
        let (text, _) = lines(&path).expect("a recording");
        assert_eq!(text.lines().count() as u64, 0, "{recorded:?}");
    }
}

#[test]
fn raw_records_are_as_the_kernel_wrote_them() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    let (_, formats) = events();
    let batch = batch(&formats, 5, true, TIME_NS);
    record(
        &path,
        RecorderOptions::default(),
        std::slice::from_ref(&batch),
    );
    let raws: Vec<Vec<u8>> = batch
        .records()
        .take(5)
        .map(|it| it.1.raw.to_vec())
        .collect();
    let mut recording = Recording::open(&path).expect("a recording");
    recording.select_events(&formats);
    let mut seen = 0;
    recording
        .play(&PlaybackOptions::default(), |played, _| {
            if let StreamItem::Event(event) = played {
                // Five events, one of each.
                let raw = &raws[event.slot];
                let common = usize::from(formats[event.slot].id).to_ne_bytes();
                assert_eq!(event.raw[..2], common[..2]);
                assert_eq!(event.raw[4..8], event.tid.to_ne_bytes());
                assert_eq!(event.raw[8..raw.len()], raw[8..]);
                assert!(event.raw.len() < raw.len() + 8);
                assert_eq!(event.tgid, TID);
                seen += 1;
            }
            Ok::<_, ReadError>(())
        })
        .expect("readable");
    assert_eq!(seen, 5);
    assert_eq!(RECORD_RAW_OFFSET, 16);
}

/// The time and the thread of each event, and how long its raw record is.
type Seen = Vec<(u64, u32, usize)>;

/// Plays a recording.
fn played(
    recording: Recording,
    options: &PlaybackOptions,
) -> (Seen, Result<RecordingSummary, ReadError>) {
    let mut events = Vec::new();
    let ended = recording.play(options, |played, _| {
        if let StreamItem::Event(event) = played {
            events.push((event.time_ns, event.tid, event.raw.len()));
        }
        Ok(())
    });
    (events, ended)
}

fn opened(path: &Path) -> Recording {
    let mut recording = Recording::open(path).expect("a recording");
    recording.select_events(&events().1);
    recording
}

#[test]
fn who_has_enough_early_does_not_wait_for_the_rest() {
    let folder = Folder::new();
    for zstd in [None, Some(1)] {
        let path = folder.file("kvm.data");
        let options = RecorderOptions {
            zstd_level: zstd,
            ..RecorderOptions::default()
        };
        record(&path, options, &batches(250_000));
        let (all, _) = played(opened(&path), &PlaybackOptions::default());
        for duration_ns in [1, 2_000_000, 120_000_000] {
            let options = PlaybackOptions {
                limits: TimeLimits {
                    duration_ns: Some(duration_ns),
                    interval_ns: None,
                },
                ..PlaybackOptions::default()
            };
            let (events, ended) = played(opened(&path), &options);
            let end_ns = all[0].0 + duration_ns;
            let expected = all.iter().filter(|it| it.0 < end_ns).count();
            assert_eq!(events.len(), expected);
            let ended = ended.expect("readable");
            assert!(ended.defect.is_none());
            assert_eq!(ended.end_ns, end_ns);
        }
        // And an error of who takes the events is what comes back.
        let error = opened(&path).play(&PlaybackOptions::default(), |_, _| {
            Err::<(), _>(ReadError::Endian { path: path.clone() })
        });
        assert!(matches!(error, Err(ReadError::Endian { .. })));
    }
}

#[test]
fn a_pipe_gives_what_a_file_gives() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    record(&path, RecorderOptions::default(), &batches(10_000));
    let options = RecorderOptions {
        path: Some(path.clone()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events().0, &HostFacts::default()).expect("a file");
    for batch in &batches(10_000) {
        recorder.record_batch(batch).expect("room");
    }
    recorder.flush().expect("room");
    std::mem::forget(recorder);
    let bytes = fs::read(&path).expect("a file");
    let (from_file, _) = played(opened(&path), &PlaybackOptions::default());
    assert_eq!(from_file.len(), 10_000);
    // However little comes at a time.
    for most in [7, 1_000, bytes.len()] {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in bytes.chunks(most) {
                    writer.write_all(piece).expect("it is read");
                }
                drop(writer);
            });
            let file = File::from(std::os::fd::OwnedFd::from(reader));
            let reader = Reader::new(file, Path::new("-")).expect("a recording");
            let mut recording = Recording::new(reader);
            recording.select_events(&events().1);
            let (from_pipe, _) = played(recording, &PlaybackOptions::default());
            assert!(from_pipe == from_file, "with {most} bytes at a time");
        });
    }
}

#[test]
fn events_without_what_is_raw_are_the_same_events() {
    let folder = Folder::new();
    let path = folder.file("kvm.data");
    record(&path, RecorderOptions::default(), &batches(250_000));
    let without_raw = PlaybackOptions {
        without_raw: true,
        ..PlaybackOptions::default()
    };
    let (mut with, _) = played(opened(&path), &PlaybackOptions::default());
    assert!(with.iter().all(|it| it.2 > 0));
    let (mut without, _) = played(opened(&path), &without_raw);
    for event in with.iter_mut().chain(&mut without) {
        event.2 = 0;
    }
    assert!(with == without);
}
