//! Streams of events, plausible and not, and how each looks as a raw record.

use std::path::Path;

use kvm_collector::{
    model::{self, EventKind, StreamItem},
    timing::{DetailEvent, Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};
use proptest::prelude::*;

/// What an event says, or what else stands in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Exit {
        vcpu: u32,
        code: u32,
        rip: u64,
    },
    Entry,
    User {
        reason: u32,
        errno: i32,
    },
    Wakeup {
        ns: u64,
    },
    Pio {
        port: u32,
        rw: u32,
    },
    Mmio {
        gpa: u64,
        kind: u32,
    },
    /// From the thread, ready or not, to nobody.
    Out {
        ready: bool,
    },
    /// From nobody to the thread.
    In,
    End,
    /// Events are missing here.
    Lost {
        everywhere: bool,
    },
    /// Somebody looks at what there is.
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) time_ns: u64,
    pub(crate) cpu: u32,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) what: What,
}

/// What is counted, and what are causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By reason; the cause is the last access to a port or to an address.
    Reason,
    /// By reason; the cause is where the guest was.
    Rip,
    Pio,
    /// Without those whose value is not there yet.
    Mmio,
    Userspace,
}

pub(crate) fn modes() -> impl Strategy<Value = Mode> {
    prop::sample::select(vec![
        Mode::Reason,
        Mode::Rip,
        Mode::Pio,
        Mode::Mmio,
        Mode::Userspace,
    ])
}

const SWITCH: &str = "name: sched_switch
ID: 300
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prev_prio;\toffset:28;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:char next_comm[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:pid_t next_pid;\toffset:56;\tsize:4;\tsigned:1;
\tfield:int next_prio;\toffset:60;\tsize:4;\tsigned:1;
";

/// The format of an event of KVM, from Linux 6.12.
pub(crate) fn format(event: &str) -> Format {
    if event == "sched_switch" {
        return Format::parse("sched", SWITCH).expect("a format");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats/6.12-x86_64");
    let path = folder.join("kvm").join(event);
    let text = std::fs::read_to_string(path).expect("a fixture");
    Format::parse("kvm", &text).expect("a format")
}

fn detail(kind: &str) -> DetailEvent {
    let kind = EventKind::from_name(kind).expect("a kind");
    DetailEvent {
        format: format(&kind.event),
        kind,
    }
}

pub(crate) fn pairing(mode: Mode) -> TimingRequest {
    TimingRequest {
        exit: Some(format("kvm_exit")),
        entry: Some(format("kvm_entry")),
        userspace_exit: Some(format("kvm_userspace_exit")),
        wakeup: Some(format("kvm_vcpu_wakeup")),
        switch: Some(format("sched_switch")),
        counted_event: match mode {
            Mode::Reason | Mode::Rip => None,
            Mode::Pio => Some(detail("pio")),
            Mode::Mmio => Some(detail("mmio")),
            Mode::Userspace => Some(detail("userspace")),
        },
        cause_events: match mode {
            Mode::Reason => vec![detail("pio"), detail("mmio")],
            _ => Vec::new(),
        },
        rip_is_cause: mode == Mode::Rip,
        slow_threshold: None,
    }
}

/// The events of a stream, in the order of their slots.
const EVENTS: [&str; 7] = [
    "kvm_exit",
    "kvm_entry",
    "kvm_userspace_exit",
    "kvm_vcpu_wakeup",
    "kvm_pio",
    "kvm_mmio",
    "sched_switch",
];

/// Times what such a stream says.
pub(crate) fn options(pairing: TimingRequest) -> ReplayOptions {
    ReplayOptions::new(pairing, &EVENTS.map(format))
}

/// Feeds a [`Replay`] with events.
pub(crate) struct Feeder {
    pub(crate) replay: Replay,
    pub(crate) formats: Vec<Format>,
}

impl Feeder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self::with(options(pairing(mode)))
    }

    pub(crate) fn with(options: ReplayOptions) -> Self {
        Self {
            formats: options.formats.clone(),
            replay: Replay::new(options).expect("all formats are there"),
        }
    }

    pub(crate) fn feed(&mut self, event: &Event) {
        let Event {
            time_ns,
            cpu,
            tgid,
            tid,
            what,
        } = *event;
        self.replay.advance(time_ns);
        let signed = |it: i32| u64::from(it.cast_unsigned());
        let (name, values): (_, Vec<(&str, u64)>) = match what {
            What::Exit { vcpu, code, rip } => (
                "kvm_exit",
                vec![
                    ("isa", 2),
                    ("exit_reason", code.into()),
                    ("guest_rip", rip),
                    ("vcpu_id", vcpu.into()),
                ],
            ),
            What::Entry => ("kvm_entry", vec![]),
            What::User { reason, errno } => (
                "kvm_userspace_exit",
                vec![("reason", reason.into()), ("errno", signed(errno))],
            ),
            What::Wakeup { ns } => ("kvm_vcpu_wakeup", vec![("ns", ns)]),
            What::Pio { port, rw } => ("kvm_pio", vec![("port", port.into()), ("rw", rw.into())]),
            What::Mmio { gpa, kind } => ("kvm_mmio", vec![("gpa", gpa), ("type", kind.into())]),
            What::Out { ready } => (
                "sched_switch",
                vec![("prev_state", if ready { 0x100 } else { 1 })],
            ),
            What::In => ("sched_switch", vec![("next_pid", tid.into())]),
            What::End => return self.replay.add_item(&StreamItem::ThreadEnd { tid }),
            What::Lost { everywhere } => {
                return self.replay.add_item(&StreamItem::Lost {
                    slot: None,
                    cpu: (!everywhere).then_some(cpu),
                    count: 1,
                    time_ns,
                });
            }
            What::Reading => return,
        };
        let slot = EVENTS.iter().position(|it| *it == name);
        let slot = slot.expect("one of these");
        let format = &self.formats[slot];
        let mut raw = vec![0; format.fixed_size()];
        for (name, value) in values {
            let field = format.field(name).expect("a field");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_le_bytes()[..field.size]);
        }
        let (tgid, tid) = if what == What::In {
            (0, 0)
        } else {
            (tgid, tid)
        };
        self.replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns,
            cpu,
            tgid,
            tid,
            subject: None,
            sample_weight: 0,
            raw: &raw,
        }));
    }
}

/// What becomes of an event on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// Nobody says so.
    Vanishes,
    Lost {
        everywhere: bool,
    },
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        30 => Just(Fate::Arrives),
        1 => Just(Fate::Vanishes),
        1 => any::<bool>().prop_map(|everywhere| Fate::Lost { everywhere }),
    ]
}

/// A step of a thread.
#[derive(Debug, Clone, Copy)]
struct Step {
    choice: u8,
    /// How long it takes.
    ns: u64,
    number: u32,
    fate: Fate,
}

fn steps() -> impl Strategy<Value = Step> {
    let ns = prop_oneof![Just(0u64), 1u64..300, 1u64..1_000_000];
    (any::<u8>(), ns, any::<u32>(), fates()).prop_map(|(choice, ns, number, fate)| Step {
        choice,
        ns,
        number,
        fate,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Guest,
    Kernel,
    Vmm,
}

/// A thread that does what threads of vCPUs do.
struct Thread {
    tgid: u32,
    tid: u32,
    vcpu: u32,
    cpu: u32,
    time_ns: u64,
    place: Place,
    events: Vec<Event>,
}

impl Thread {
    fn say(&mut self, what: What, fate: Fate) {
        let event = |what| Event {
            time_ns: self.time_ns,
            cpu: self.cpu,
            tgid: self.tgid,
            tid: self.tid,
            what,
        };
        self.events.push(match fate {
            Fate::Lost { everywhere } => event(What::Lost { everywhere }),
            Fate::Vanishes => return,
            Fate::Arrives => event(what),
        });
    }

    /// Off the CPU, and back on whichever.
    fn off(&mut self, ready: bool, ns: u64, cpu: u32) {
        self.say(What::Out { ready }, Fate::Arrives);
        self.time_ns += ns;
        self.cpu = cpu % 3;
        self.say(What::In, Fate::Arrives);
    }

    fn halt(&mut self, step: &Step) {
        let began_ns = self.time_ns;
        let number = step.number;
        self.time_ns += u64::from(number % 50);
        // Once at most: the clock knows no more than the last time.
        if number & 0x100 != 0 {
            self.off(true, u64::from(number % 70), number >> 9);
        }
        self.time_ns += step.ns / 3;
        if number & 0x200 != 0 {
            self.off(false, step.ns, number >> 10);
        }
        let ns = self.time_ns - began_ns;
        self.say(What::Wakeup { ns }, step.fate);
        self.place = Place::Kernel;
    }

    fn step(&mut self, step: &Step) {
        self.time_ns += step.ns;
        let Step { number, fate, .. } = *step;
        let exit = What::Exit {
            vcpu: self.vcpu,
            code: [0x72, 0x78, 0x7b, 0x400][number as usize % 4],
            rip: u64::from(number % 30),
        };
        match (self.place, step.choice) {
            // It may end anywhere, and another one have its number.
            (_, 0..=3) => {
                self.say(What::End, Fate::Arrives);
                self.tgid += number % 2;
                self.vcpu += 10 * (number % 3);
                self.place = Place::Guest;
            }
            // It runs another vCPU.
            (Place::Kernel, 4) => self.vcpu += 10,
            (Place::Guest, _) => {
                self.say(exit, fate);
                self.place = Place::Kernel;
            }
            (_, 4..30) => self.off(true, step.ns / 2, number),
            (_, 30..120) => {
                self.say(What::Entry, fate);
                self.place = Place::Guest;
            }
            (_, 120..150) => self.halt(step),
            // Also again, when it was interrupted on its way to the guest.
            (_, 150..190) => {
                let errno = if number.is_multiple_of(3) { -4 } else { 0 };
                let reason = number % 5;
                self.say(What::User { reason, errno }, fate);
                self.place = Place::Vmm;
            }
            (_, 190..215) => {
                let (port, rw) = (number % 3, number / 3 % 2);
                self.say(What::Pio { port, rw }, fate);
                self.place = Place::Kernel;
            }
            (_, 215..245) => {
                let (gpa, kind) = (u64::from(number % 30), number % 3);
                self.say(What::Mmio { gpa, kind }, fate);
                self.place = Place::Kernel;
            }
            (_, _) => {
                self.say(exit, fate);
                self.place = Place::Kernel;
            }
        }
    }
}

/// What several threads of vCPUs may do, some of it lost, and who reads it when.
pub(crate) fn plausible() -> impl Strategy<Value = Vec<Event>> {
    let thread = prop::collection::vec(steps(), 1..120);
    let readings = prop::collection::vec(0u64..20_000_000, 0..3);
    (prop::collection::vec(thread, 1..5), readings).prop_map(|(threads, readings)| {
        let mut events = Vec::new();
        for (number, steps) in (0..).zip(threads) {
            let mut thread = Thread {
                tgid: 100 * (number / 2 + 1),
                tid: 7 + number,
                vcpu: number,
                cpu: number % 3,
                time_ns: 1000,
                place: Place::Guest,
                events: Vec::new(),
            };
            steps.iter().for_each(|step| thread.step(step));
            events.append(&mut thread.events);
        }
        events.extend(readings.into_iter().map(|time_ns| Event {
            time_ns,
            cpu: 0,
            tgid: 0,
            tid: 0,
            what: What::Reading,
        }));
        // Stable: what one thread does at once stays in order.
        events.sort_by_key(|event| event.time_ns);
        events
    })
}

/// Events as no kernel gives them, in the order of time or not even that.
pub(crate) fn wild() -> impl Strategy<Value = Vec<Event>> {
    let ns = prop_oneof![Just(0u64), 1u64..1000, any::<u64>()];
    let what = prop_oneof![
        (0..3u32, 0..3u32, 0..30u64).prop_map(|(vcpu, code, rip)| What::Exit { vcpu, code, rip }),
        Just(What::Entry),
        (0..3u32, -5..1i32).prop_map(|(reason, errno)| What::User { reason, errno }),
        ns.clone().prop_map(|ns| What::Wakeup { ns }),
        (0..3u32, 0..2u32).prop_map(|(port, rw)| What::Pio { port, rw }),
        (0..3u64, 0..3u32).prop_map(|(gpa, kind)| What::Mmio { gpa, kind }),
        any::<bool>().prop_map(|ready| What::Out { ready }),
        Just(What::In),
        Just(What::End),
        any::<bool>().prop_map(|everywhere| What::Lost { everywhere }),
        Just(What::Reading),
    ];
    let in_order = prop_oneof![0u64..5, 0u64..100_000];
    let event = (in_order, ns, 0u8..50, 0..3u32, 1..4u32, what);
    let streams = (
        prop::collection::vec(event, 0..300),
        any::<bool>(),
        any::<bool>(),
    );
    streams.prop_map(|(events, sorted, with_ends)| {
        let mut now_ns = 0;
        let mut all = Vec::new();
        for (after_ns, any_ns, choice, cpu, tid, what) in events {
            now_ns += after_ns;
            let time_ns = if !sorted && choice == 0 {
                any_ns
            } else {
                now_ns
            };
            let (tgid, what) = match what {
                // One vCPU for each thread, or time would be counted for both at once.
                What::Exit { code, rip, vcpu } => {
                    let vcpu = if vcpu == 0 { tid + 10 } else { tid };
                    (1, What::Exit { vcpu, code, rip })
                }
                What::End if !with_ends => (1, What::Entry),
                what => (1, what),
            };
            all.push(Event {
                time_ns,
                cpu,
                tgid,
                tid,
                what,
            });
        }
        all
    })
}
