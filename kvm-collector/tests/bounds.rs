//! Whatever a stream says, what is remembered of it takes no more memory than docs/recording.md says, and what found no
//! room is counted.

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
        EventCounter, ExitLineOptions, ExitLines, Timeline, TraceClock, TraceFormat, TraceLines,
    },
};
use kvm_ebpf_common::{Key, SpanBreakdown};

/// Knows how many bytes are allocated, and how many there were at most.
struct Measuring;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// Memory from a moment on. Only one test at a time measures.
struct Memory {
    before: usize,
    _only: MutexGuard<'static, ()>,
}

impl Memory {
    fn begin() -> Self {
        static ONLY: Mutex<()> = Mutex::new(());
        let only = ONLY
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        Self {
            before,
            _only: only,
        }
    }

    /// What there was at most since then, in bytes.
    fn most(&self) -> usize {
        MOST.load(Ordering::Relaxed).saturating_sub(self.before)
    }

    #[track_caller]
    fn is_below(&self, bytes: usize) {
        let most = self.most();
        assert!(most <= bytes, "{most} bytes, not {bytes}");
    }
}

/// By slot.
const EVENTS: [&str; 4] = ["kvm_exit", "kvm_entry", "kvm_userspace_exit", "kvm_pio"];
const EXIT: usize = 0;
const ENTRY: usize = 1;
const USER: usize = 2;
const PIO: usize = 3;

fn formats() -> Vec<Format> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.12-x86_64");
    let format = |name: &&str| {
        let text = std::fs::read_to_string(folder.join("kvm").join(name)).expect("a fixture");
        Format::parse("kvm", &text).expect("a format")
    };
    EVENTS.iter().map(format).collect()
}

/// Makes the items of a stream.
struct Stream {
    formats: Vec<Format>,
    raw: Vec<u8>,
    time_ns: u64,
}

impl Stream {
    fn new() -> Self {
        Self {
            formats: formats(),
            raw: vec![0; 256],
            time_ns: 1000,
        }
    }

    /// An event with some of its fields.
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

/// Exits of ever new threads.
const MANY: u32 = 100_000;

/// How a stream is made so that it fills some table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// New threads, none of which ends.
    Threads,
    /// New threads of one process, each of which ends, in the middle of an exit.
    EndedThreads,
    /// New processes that end.
    EndedProcesses,
    /// One thread that runs ever new vCPUs.
    Vcpus,
    /// One thread with ever new reasons.
    Reasons,
    /// New threads that end, each with another reason.
    EndedReasons,
}

const WAYS: [Way; 6] = [
    Way::Threads,
    Way::EndedThreads,
    Way::EndedProcesses,
    Way::Vcpus,
    Way::Reasons,
    Way::EndedReasons,
];

/// Feeds such a stream; each exit counts once.
fn feed(way: Way, stream: &mut Stream, mut take: impl FnMut(&StreamItem<'_>)) {
    for number in 0..MANY {
        let id = 10 + number;
        let (thread, vcpu, reason) = match way {
            Way::Threads => ((1, id), number.into(), 0x78),
            Way::EndedThreads => ((1, id), number.into(), 0x78),
            Way::EndedProcesses => ((id, id), 0, 0x78),
            Way::Vcpus => ((1, 2), number.into(), 0x78),
            Way::Reasons => ((1, 2), 0, number.into()),
            Way::EndedReasons => ((1, id), 0, number.into()),
        };
        let tid = thread.1;
        let is_in_progress = way == Way::EndedThreads;
        take(&stream.exit(thread, vcpu, reason));
        if !is_in_progress {
            take(&stream.event(USER, thread, &[]));
            take(&stream.event(ENTRY, thread, &[]));
        }
        if matches!(
            way,
            Way::EndedThreads | Way::EndedProcesses | Way::EndedReasons
        ) {
            take(&StreamItem::ThreadEnd { tid });
        }
    }
}

/// Bytes of each entry, as docs/recording.md has them, and what the tables themselves need.
const ROW: usize = 2_700;
const THREAD: usize = 900;
const EXITED: usize = 330;

#[test]
fn a_replay_is_bounded_and_counts_what_finds_no_room() {
    let (max_rows, max_threads) = (1 << 12, 1 << 12);
    for way in WAYS {
        for has_totals in [true, false] {
            let mut stream = Stream::new();
            let memory = Memory::begin();
            let options = ReplayOptions {
                max_rows,
                max_threads,
                collects_totals: has_totals,
                ..ReplayOptions::new(
                    TimingRequest::from_formats(&stream.formats),
                    &stream.formats,
                )
            };
            let mut replay = Replay::new(options).expect("all events are there");
            feed(way, &mut stream, |item| replay.add_item(item));
            memory.is_below(
                max_rows * ROW
                    + max_threads * THREAD
                    + capacity::MAX_EXITED_ROWS * ROW
                    + capacity::MAX_EXITED_VCPUS * EXITED
                    + (1 << 20),
            );
            let mut counted = 0;
            let reading = replay.read_exits(&mut |exits| counted += exits.totals.count);
            let all = u64::from(MANY);
            if has_totals {
                assert_eq!(counted + reading.loss.map_full, all, "{way:?}");
            }
            // VMs, threads and vCPUs that have ended are merged; what lives, and reasons, cannot be.
            let has_loss = match way {
                Way::Threads => true,
                Way::Reasons | Way::EndedReasons => has_totals,
                Way::EndedThreads | Way::EndedProcesses | Way::Vcpus => false,
            };
            assert_eq!(reading.loss.map_full > 0, has_loss, "{way:?} {has_totals}");
        }
    }
}

/// With room for the default number of rows: those that docs/recording.md says a host may have.
#[test]
fn the_defaults_have_room_for_a_large_host() {
    let mut stream = Stream::new();
    let memory = Memory::begin();
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
                // All VMs end, and others come.
                replay.add_item(&StreamItem::ThreadEnd { tid });
            }
        }
    }
    memory.is_below(capacity::MAX_ROWS * ROW + (100 << 20));
    let mut counted = 0;
    let reading = replay.read_exits(&mut |exits| counted += exits.totals.count);
    assert_eq!((counted, reading.loss.map_full), (3 * 4096 * 24, 0));
}

#[test]
fn text_of_exits_is_bounded_and_says_what_it_leaves_out() {
    const THREADS: u32 = 3000;
    const INSIDE: u32 = 500;
    for (per_exit, json) in [(true, false), (true, true), (false, false)] {
        let mut stream = Stream::new();
        let formats = stream.formats.clone();
        let options = ExitLineOptions {
            min_ns: 0,
            per_exit,
            json,
            is_sampled: false,
        };
        let memory = Memory::begin();
        let mut exits = ExitLines::new(&formats, options).expect("all events are there");
        let mut lines =
            TraceLines::new(formats.len(), TraceFormat::Kernel, TraceClock::Mono, false);
        let mut none = std::io::sink();
        for tid in 1..=THREADS {
            let item = stream.exit((1, tid), tid.into(), 0x7b);
            exits
                .add_item(&item, true, &formats, "vcpu", &mut lines, &mut none)
                .expect("a sink");
        }
        for _ in 0..INSIDE {
            for tid in 1..=THREADS {
                let item = stream.event(PIO, (1, tid), &[("port", 0x3f8)]);
                exits
                    .add_item(&item, true, &formats, "vcpu", &mut lines, &mut none)
                    .expect("a sink");
            }
        }
        // A buffer that grows takes twice its text, and its former memory while it is moved.
        memory.is_below(2 * capacity::MAX_EXIT_TEXT_BYTES + (16 << 20));
        let mut out = Vec::new();
        let mut said = 0;
        for tid in 1..=THREADS {
            let item = stream.event(ENTRY, (1, tid), &[]);
            out.clear();
            exits
                .add_item(&item, true, &formats, "vcpu", &mut lines, &mut out)
                .expect("memory");
            let text = String::from_utf8_lossy(&out).into_owned();
            let shown = text.matches(if json { "kvm_pio" } else { "pio: " }).count();
            let shown = if per_exit {
                shown
            } else {
                text.matches("kvm_pio: ").count()
            };
            said += shown as u64 + left_out(&text);
        }
        assert_eq!(said, u64::from(THREADS) * u64::from(INSIDE));
        // What was in progress is released with its exit.
        let item = stream.exit((1, 1), 1, 0x7b);
        exits
            .add_item(&item, true, &formats, "vcpu", &mut lines, &mut none)
            .expect("a sink");
        let now = NOW.load(Ordering::Relaxed).saturating_sub(memory.before);
        assert!(now < 24 << 20, "{now} bytes");
    }
}

/// How many events of an exit its text says to be left out.
fn left_out(text: &str) -> u64 {
    let number = |after: &str| {
        let rest = text.split(after).nth(1)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let of_line = || {
        let (before, _) = text.trim_end().rsplit_once(" more events")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    number("# left out ")
        .or_else(|| number("\"left_out\":"))
        .or_else(of_line)
        .unwrap_or(0)
}

/// A segment of a thread.
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
fn parts_of_exits_in_progress_are_bounded() {
    const THREADS: u32 = 20_000;
    let memory = Memory::begin();
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
    // Two assemblers.
    memory.is_below(2 * capacity::MAX_EXIT_PARTS * 200 + (32 << 20));
    let exit = VcpuState::Exit(Exit {
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
    // There is room again.
    add(&segment(1, VcpuState::Part(ExitPart::Vmm)), &mut |_| {});
    let mut parts = 0;
    add(&segment(1, exit), &mut |it| parts = it);
    assert_eq!(parts, 1);
}

#[test]
fn counts_of_vms_are_bounded() {
    let mut stream = Stream::new();
    let formats = stream.formats.clone();
    let memory = Memory::begin();
    let mut counter = EventCounter::new(&formats, true);
    feed(Way::EndedProcesses, &mut stream, |item| {
        counter.add_item(item)
    });
    memory.is_below(capacity::MAX_COUNTED_VMS * (8 * EVENTS.len() + 200));
}
