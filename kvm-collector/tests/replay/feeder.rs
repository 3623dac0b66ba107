//! Feeds a replay with events as raw records.

use std::path::Path;

use kvm_collector::{
    model::{self, EventKind, StreamItem},
    timing::{DetailEvent, Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};

use crate::{
    event::{CountMode, EventType, StreamEvent},
    raw_event::raw_event,
};

/// Returns the format of an event: of Linux 6.12 for KVM, and of 6.18 for the scheduler.
pub(crate) fn format(event: &str) -> Format {
    let (kernel, system) = match event {
        "sched_switch" => ("6.18-x86_64", "sched"),
        _ => ("6.12-x86_64", "kvm"),
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let path = folder.join(kernel).join(system).join(event);
    let text = std::fs::read_to_string(path).expect("a fixture");
    Format::parse(system, &text).expect("a format")
}

fn detail(kind: &str) -> DetailEvent {
    let kind = EventKind::from_name(kind).expect("a kind");
    DetailEvent {
        format: format(&kind.event),
        kind,
    }
}

pub(crate) fn timing_request(mode: CountMode) -> TimingRequest {
    TimingRequest {
        host_isa: None,
        exit: Some(format("kvm_exit")),
        entry: Some(format("kvm_entry")),
        userspace_exit: Some(format("kvm_userspace_exit")),
        wakeup: Some(format("kvm_vcpu_wakeup")),
        switch: Some(format("sched_switch")),
        counted_event: match mode {
            CountMode::Reason | CountMode::Rip => None,
            CountMode::Pio => Some(detail("pio")),
            CountMode::Mmio => Some(detail("mmio")),
            CountMode::Userspace => Some(detail("userspace")),
        },
        cause_events: match mode {
            CountMode::Reason => vec![detail("pio"), detail("mmio")],
            _ => Vec::new(),
        },
        rip_is_cause: mode == CountMode::Rip,
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

/// Returns the options of a replay of all these events.
pub(crate) fn replay_options(timing: TimingRequest) -> ReplayOptions {
    ReplayOptions::new(timing, &EVENTS.map(format))
}

/// Feeds a [`Replay`] with events.
pub(crate) struct Feeder {
    pub(crate) replay: Replay,
    pub(crate) formats: Vec<Format>,
}

impl Feeder {
    pub(crate) fn new(mode: CountMode) -> Self {
        Self::with_options(replay_options(timing_request(mode)))
    }

    pub(crate) fn with_options(options: ReplayOptions) -> Self {
        Self {
            formats: options.formats.clone(),
            replay: Replay::new(options).expect("all formats are there"),
        }
    }

    pub(crate) fn feed(&mut self, event: &StreamEvent) {
        let StreamEvent {
            time_ns,
            cpu,
            tgid,
            tid,
            event_type,
        } = *event;
        self.replay.advance(time_ns);
        let to_field = |it: i32| u64::from(it.cast_unsigned());
        let (name, values): (_, Vec<(&str, u64)>) = match event_type {
            EventType::Exit { vcpu, code, rip } => (
                "kvm_exit",
                vec![
                    ("isa", 2),
                    ("exit_reason", code.into()),
                    ("guest_rip", rip),
                    ("vcpu_id", vcpu.into()),
                ],
            ),
            EventType::Entry => ("kvm_entry", vec![]),
            EventType::UserspaceExit { reason, errno } => (
                "kvm_userspace_exit",
                vec![("reason", reason.into()), ("errno", to_field(errno))],
            ),
            EventType::Wakeup { ns } => ("kvm_vcpu_wakeup", vec![("ns", ns)]),
            EventType::Pio { port, rw } => {
                ("kvm_pio", vec![("port", port.into()), ("rw", rw.into())])
            }
            EventType::Mmio { gpa, kind } => {
                ("kvm_mmio", vec![("gpa", gpa), ("type", kind.into())])
            }
            EventType::SwitchOut { is_runnable } => (
                "sched_switch",
                vec![("prev_state", if is_runnable { 0x100 } else { 1 })],
            ),
            EventType::SwitchIn => ("sched_switch", vec![("next_pid", tid.into())]),
            EventType::ThreadEnd => return self.replay.add_item(&StreamItem::ThreadEnd { tid }),
            EventType::Lost { on_all_cpus } => {
                return self.replay.add_item(&StreamItem::Lost {
                    slot: None,
                    cpu: (!on_all_cpus).then_some(cpu),
                    count: 1,
                    time_ns,
                });
            }
            EventType::Reading => return,
        };
        let slot = EVENTS.iter().position(|it| *it == name);
        let slot = slot.expect("an event of the stream");
        let format = &self.formats[slot];
        let raw = raw_event(format, &values);
        let (tgid, tid) = if event_type == EventType::SwitchIn {
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
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            sample_weight: 0,
            raw: &raw,
        }));
    }
}
