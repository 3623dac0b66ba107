//! Memory limits: user space allocates no more memory for a stream than docs/recording.md says, whatever the stream
//! contains. What exceeds a capacity is counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    path::Path,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use kvm_collector::{
    model::{
        Event, Exit, ExitEnd, ExitPart, Segment, StreamItem, ThreadId, VcpuId, VcpuState, capacity,
    },
    timing::{CompleteSegment, ExitAssembler, Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
    view::{
        EventCounter, ExitLineOptions, ExitLines, ItemNames, ReportOrigin, SelectedBy, Timeline,
        TraceClock, TraceFormat, TraceLines,
    },
};
use kvm_ebpf_common::{Key, SpanBreakdown};

/// Measures how many bytes are allocated, and their maximum.
struct MeasuringAllocator;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);
static MAX_ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for MeasuringAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let bytes = ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MAX_ALLOCATED_BYTES.fetch_max(bytes, Ordering::Relaxed);
        // SAFETY: the caller meets the requirements of `GlobalAlloc`, which are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: MeasuringAllocator = MeasuringAllocator;

/// Measures memory since its start. Holds a lock, so that only one test measures at a time.
struct MemoryMeasurement {
    start_bytes: usize,
    _lock: MutexGuard<'static, ()>,
}

impl MemoryMeasurement {
    fn start() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        let lock = LOCK
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let start_bytes = ALLOCATED_BYTES.load(Ordering::Relaxed);
        MAX_ALLOCATED_BYTES.store(start_bytes, Ordering::Relaxed);
        Self {
            start_bytes,
            _lock: lock,
        }
    }

    /// Returns the bytes that are allocated now in addition to those at the start.
    fn current_bytes(&self) -> usize {
        ALLOCATED_BYTES
            .load(Ordering::Relaxed)
            .saturating_sub(self.start_bytes)
    }

    /// Asserts that the maximum since the start is at most `limit_bytes`.
    #[track_caller]
    fn assert_max(&self, limit_bytes: usize) {
        let max_bytes = MAX_ALLOCATED_BYTES
            .load(Ordering::Relaxed)
            .saturating_sub(self.start_bytes);
        assert!(
            max_bytes <= limit_bytes,
            "{max_bytes} bytes were allocated; the limit is {limit_bytes}"
        );
    }
}

/// The events of the streams, by slot.
const EVENTS: [&str; 4] = ["kvm_exit", "kvm_entry", "kvm_userspace_exit", "kvm_pio"];
const EXIT: usize = 0;
const ENTRY: usize = 1;
const USERSPACE_EXIT: usize = 2;
const PIO: usize = 3;

fn formats() -> Vec<Format> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.12-x86_64");
    let format = |name: &&str| {
        let text = std::fs::read_to_string(folder.join("kvm").join(name)).expect("a fixture");
        Format::parse("kvm", &text).expect("a format")
    };
    EVENTS.iter().map(format).collect()
}

/// Creates the items of a stream, 10 ns apart.
struct ItemSource {
    formats: Vec<Format>,
    raw: Vec<u8>,
    time_ns: u64,
}

impl ItemSource {
    fn new() -> Self {
        Self {
            formats: formats(),
            raw: vec![0; 256],
            time_ns: 1000,
        }
    }

    /// Creates an event with these field values; other fields are 0.
    fn event(
        &mut self,
        slot: usize,
        (tgid, tid): (u32, u32),
        fields: &[(&str, u64)],
    ) -> StreamItem<'_> {
        let format = &self.formats[slot];
        self.raw.fill(0);
        for (name, value) in fields {
            let field = format.field(name).expect("a field");
            self.raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_ne_bytes()[..field.size]);
        }
        self.time_ns += 10;
        StreamItem::Event(Event {
            time_ns: self.time_ns,
            cpu: 0,
            tgid,
            tid,
            subject: Some(ThreadId { tgid, tid }),
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            slot,
            sample_weight: 0,
            raw: &self.raw[..format.fixed_size()],
        })
    }

    fn exit(&mut self, thread: (u32, u32), vcpu: u64, reason: u64) -> StreamItem<'_> {
        let fields = [("isa", 2), ("exit_reason", reason), ("vcpu_id", vcpu)];
        self.event(EXIT, thread, &fields)
    }
}

/// Number of exits in a stream.
const EXITS: u32 = 100_000;

/// What is new at each exit of a stream. Each kind of stream fills another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamKind {
    /// A new thread of one process. No thread ends.
    Threads,
    /// A new thread of one process. Each thread ends before its exit has ended.
    EndedThreads,
    /// A new process, which ends after the exit.
    EndedProcesses,
    /// A new vCPU in the same thread.
    Vcpus,
    /// A new reason in the same thread.
    Reasons,
    /// A new reason in a new thread, which ends after the exit.
    EndedReasons,
}

const STREAM_KINDS: [StreamKind; 6] = [
    StreamKind::Threads,
    StreamKind::EndedThreads,
    StreamKind::EndedProcesses,
    StreamKind::Vcpus,
    StreamKind::Reasons,
    StreamKind::EndedReasons,
];

/// Passes the items of a stream to `each`.
fn feed(kind: StreamKind, stream: &mut ItemSource, mut each: impl FnMut(&StreamItem<'_>)) {
    for number in 0..EXITS {
        let id = 10 + number;
        let (thread, vcpu, reason) = match kind {
            StreamKind::Threads => ((1, id), number.into(), 0x78),
            StreamKind::EndedThreads => ((1, id), number.into(), 0x78),
            StreamKind::EndedProcesses => ((id, id), 0, 0x78),
            StreamKind::Vcpus => ((1, 2), number.into(), 0x78),
            StreamKind::Reasons => ((1, 2), 0, number.into()),
            StreamKind::EndedReasons => ((1, id), 0, number.into()),
        };
        let tid = thread.1;
        let is_in_progress = kind == StreamKind::EndedThreads;
        each(&stream.exit(thread, vcpu, reason));
        if !is_in_progress {
            each(&stream.event(USERSPACE_EXIT, thread, &[]));
            each(&stream.event(ENTRY, thread, &[]));
        }
        if matches!(
            kind,
            StreamKind::EndedThreads | StreamKind::EndedProcesses | StreamKind::EndedReasons
        ) {
            each(&StreamItem::ThreadEnd { tid });
        }
    }
}

/// Bytes per entry: those in docs/recording.md, and the share of the table itself.
const ROW_BYTES: usize = 2_700;
const THREAD_BYTES: usize = 900;
const EXITED_VCPU_BYTES: usize = 330;

#[test]
fn a_replay_has_bounded_memory_and_counts_what_does_not_fit() {
    let (max_rows, max_threads) = (1 << 12, 1 << 12);
    for kind in STREAM_KINDS {
        for collects_totals in [true, false] {
            let mut stream = ItemSource::new();
            let memory = MemoryMeasurement::start();
            let options = ReplayOptions {
                max_rows,
                max_threads,
                collects_totals,
                ..ReplayOptions::new(
                    TimingRequest::from_formats(&stream.formats),
                    &stream.formats,
                )
            };
            let mut replay = Replay::new(options).expect("all events are there");
            feed(kind, &mut stream, |item| replay.add_item(item));
            memory.assert_max(
                max_rows * ROW_BYTES
                    + max_threads * THREAD_BYTES
                    + capacity::MAX_EXITED_ROWS * ROW_BYTES
                    + capacity::MAX_EXITED_VCPUS * EXITED_VCPU_BYTES
                    + (1 << 20),
            );
            let mut counted = 0;
            let reading = replay.read_exits(&mut |exits| counted += exits.totals.count);
            if collects_totals {
                let total = u64::from(EXITS);
                assert_eq!(counted + reading.loss.map_full, total, "{kind:?}");
            }
            // Entries of ended VMs, threads and vCPUs are merged. Entries of live threads and of reasons are not.
            let has_loss = match kind {
                StreamKind::Threads => true,
                StreamKind::Reasons | StreamKind::EndedReasons => collects_totals,
                StreamKind::EndedThreads | StreamKind::EndedProcesses | StreamKind::Vcpus => false,
            };
            assert_eq!(
                reading.loss.map_full > 0,
                has_loss,
                "{kind:?} {collects_totals}"
            );
        }
    }
}

/// Checks the default capacity with the largest host that docs/recording.md names.
#[test]
fn the_default_capacity_suffices_for_a_large_host() {
    let mut stream = ItemSource::new();
    let memory = MemoryMeasurement::start();
    let options = ReplayOptions::new(
        TimingRequest::from_formats(&stream.formats),
        &stream.formats,
    );
    let mut replay = Replay::new(options).expect("all events are there");
    for round in 0..3 {
        for vcpu in 0..4096u32 {
            let (tgid, tid) = (10 + 20_000 * round + vcpu / 8, 100_000 * (round + 1) + vcpu);
            for reason in 0..24 {
                replay.add_item(&stream.exit((tgid, tid), (vcpu % 8).into(), reason));
                replay.add_item(&stream.event(ENTRY, (tgid, tid), &[]));
            }
            if round < 2 {
                // All VMs end, and new ones start in the next round.
                replay.add_item(&StreamItem::ThreadEnd { tid });
            }
        }
    }
    memory.assert_max(capacity::MAX_ROWS * ROW_BYTES + (100 << 20));
    let mut counted = 0;
    let reading = replay.read_exits(&mut |exits| counted += exits.totals.count);
    assert_eq!((counted, reading.loss.map_full), (3 * 4096 * 24, 0));
}

#[test]
fn exit_lines_have_bounded_memory_and_count_omitted_events() {
    const THREADS: u32 = 3000;
    const EVENTS_PER_EXIT: u32 = 500;
    for (per_exit, json) in [(true, false), (true, true), (false, false)] {
        let mut stream = ItemSource::new();
        let formats = stream.formats.clone();
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit,
            json,
            is_sampled: false,
        };
        let memory = MemoryMeasurement::start();
        let names = ItemNames {
            comm: "vcpu",
            vcpu: Some(0),
            vm_name: &|_| Some("vm".into()),
        };
        let mut exits = ExitLines::new(&formats, options, ReportOrigin::new(SelectedBy::default()))
            .expect("all events are there");
        let mut lines =
            TraceLines::new(formats.len(), TraceFormat::Kernel, TraceClock::Mono, false);
        let mut sink = std::io::sink();
        for tid in 1..=THREADS {
            let item = stream.exit((1, tid), tid.into(), 0x7b);
            exits
                .add_item(&item, true, &formats, names, &mut lines, &mut sink)
                .expect("a sink");
        }
        for _ in 0..EVENTS_PER_EXIT {
            for tid in 1..=THREADS {
                let item = stream.event(PIO, (1, tid), &[("port", 0x3f8)]);
                exits
                    .add_item(&item, true, &formats, names, &mut lines, &mut sink)
                    .expect("a sink");
            }
        }
        // A growing buffer has up to twice the size of its text, and exists twice while it is copied.
        memory.assert_max(2 * capacity::MAX_EXIT_TEXT_BYTES + (16 << 20));
        let mut out = Vec::new();
        let mut reported = 0;
        for tid in 1..=THREADS {
            let item = stream.event(ENTRY, (1, tid), &[]);
            out.clear();
            exits
                .add_item(&item, true, &formats, names, &mut lines, &mut out)
                .expect("memory");
            let text = String::from_utf8_lossy(&out).into_owned();
            let shown = text.matches(if json { "kvm_pio" } else { "pio: " }).count();
            let shown = if per_exit {
                shown
            } else {
                text.matches("kvm_pio: ").count()
            };
            reported += shown as u64 + omitted_events(&text);
        }
        assert_eq!(reported, u64::from(THREADS) * u64::from(EVENTS_PER_EXIT));
        // The text of an exit is freed when the exit ends.
        let item = stream.exit((1, 1), 1, 0x7b);
        exits
            .add_item(&item, true, &formats, names, &mut lines, &mut sink)
            .expect("a sink");
        let current_bytes = memory.current_bytes();
        assert!(current_bytes < 24 << 20, "{current_bytes} bytes");
    }
}

/// Reads from the text of an exit how many events it omits.
fn omitted_events(text: &str) -> u64 {
    let number_after = |label: &str| {
        let rest = text.split(label).nth(1)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let number_of_last_line = || {
        let (before, _) = text.trim_end().rsplit_once(" more events")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    number_after("# left out ")
        .or_else(|| number_after("\"left_out\":"))
        .or_else(number_of_last_line)
        .unwrap_or(0)
}

fn segment(tid: u32, state: VcpuState) -> Segment {
    Segment {
        vcpu_id: VcpuId {
            tgid: 1,
            vcpu: tid,
            tid,
        },
        cpu: 0,
        from_ns: 10,
        to_ns: 20,
        state,
    }
}

#[test]
fn parts_of_exits_in_progress_have_bounded_memory() {
    const THREADS: u32 = 20_000;
    let memory = MemoryMeasurement::start();
    let mut assembler = ExitAssembler::default();
    let mut timeline = Timeline::default();
    let mut add = |segment: &Segment, each: &mut dyn FnMut(usize)| {
        timeline.add_segment(segment);
        assembler.add(segment, |it| {
            if let CompleteSegment::Exit(_, _, parts) = it {
                each(parts.len());
            }
        });
    };
    for _ in 0..30 {
        for tid in 1..=THREADS {
            let part = segment(tid, VcpuState::Part(ExitPart::Vmm));
            add(&part, &mut |_| panic!("no exit has ended"));
        }
    }
    // The timeline has a second assembler.
    memory.assert_max(2 * capacity::MAX_EXIT_PARTS * 200 + (32 << 20));
    let exit = VcpuState::Exit(Exit {
        cause: None,
        key: Key::default(),
        guest_rip: 0,
        parts: SpanBreakdown::default(),
        end: ExitEnd::Entry,
    });
    let mut stored = 0;
    for tid in 1..=THREADS {
        add(&segment(tid, exit), &mut |parts| stored += parts);
    }
    assert_eq!(stored, capacity::MAX_EXIT_PARTS);
    // The parts of the ended exits have freed capacity.
    add(&segment(1, VcpuState::Part(ExitPart::Vmm)), &mut |_| {});
    let mut parts = 0;
    add(&segment(1, exit), &mut |it| parts = it);
    assert_eq!(parts, 1);
}

#[test]
fn counts_per_vm_have_bounded_memory() {
    let mut stream = ItemSource::new();
    let formats = stream.formats.clone();
    let memory = MemoryMeasurement::start();
    let mut counter = EventCounter::new(&formats, true);
    feed(StreamKind::EndedProcesses, &mut stream, |item| {
        counter.add_item(item)
    });
    memory.assert_max(capacity::MAX_COUNTED_VMS * (8 * EVENTS.len() + 200));
}
