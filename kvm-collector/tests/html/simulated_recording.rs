//! Recordings of simulated VMs. Their names contain markup, which the page must escape.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    host::machine::Machine,
    model::{Batch, VmName, VmUuid},
    recording::{HostFacts, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET, THREAD_END_SLOT};

use crate::{
    raw_event::raw_event,
    raw_record::{RecordHeader, push_record, recorded_events},
};

/// Process of the first VM. No real process has this id, so names come only from the records of thread ends.
const FIRST_TGID: u32 = 1 << 30;

const START_NS: u64 = 5_000_000_000;

/// The UUID of the last VM. Those of the others are not known.
const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

/// Names of the VMs' processes. A name has at most 15 bytes.
pub(crate) const VM_NAMES: [&str; 3] = ["</script><b>x", "<img src=x>\"'&", "web-1"];

const WAKEUP: (&str, &str) = ("kvm", "kvm_vcpu_wakeup");

const EVENTS: [(&str, &str); 6] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_pio"),
    ("kvm", "kvm_msr"),
    WAKEUP,
];

/// Describes the contents of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordingContents {
    pub(crate) seconds: u64,
    pub(crate) has_loss: bool,
    /// Whether exits are recorded. Without them, the only event is `kvm_vcpu_wakeup`.
    pub(crate) has_exits: bool,
    /// Whether the host has no name.
    pub(crate) is_anonymous: bool,
    /// Number of the host and of the day on which it records. The name of host 0 contains markup.
    pub(crate) host: u8,
    pub(crate) day: u8,
}

/// Generates the events of a recording.
struct EventGenerator {
    formats: Vec<Format>,
    random_state: u64,
    /// Time, process, thread, slot and record of each event.
    events: Vec<(u64, u32, u32, usize, Vec<u8>)>,
}

impl EventGenerator {
    /// Returns a random number below `limit`, from Knuth's generator.
    fn random(&mut self, limit: u64) -> u64 {
        self.random_state = self
            .random_state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random_state >> 33) % limit
    }

    /// Adds an event if its type is recorded.
    fn add_event(
        &mut self,
        time_ns: u64,
        (tgid, tid): (u32, u32),
        name: &str,
        fields: &[(&str, u64)],
    ) {
        let slot = self.formats.iter().position(|it| it.name == name);
        let Some(slot) = slot else { return };
        let format = &self.formats[slot];
        let raw = raw_event(format, fields);
        let body = raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..].to_vec();
        self.events.push((time_ns, tgid, tid, slot, body));
    }

    /// Adds the exits and entries of a vCPU. Their rate varies from second to second.
    fn add_vcpu(&mut self, thread: (u32, u32), vcpu: u64, until_ns: u64) {
        let mut now_ns = START_NS + self.random(1_000_000);
        let id = ("vcpu_id", vcpu);
        // The first event is an exit, because only the timeline has guest time before the first exit.
        while now_ns < until_ns {
            let second = (now_ns - START_NS) / 1_000_000_000;
            let factor = if (second + vcpu).is_multiple_of(3) {
                1
            } else {
                5
            };
            now_ns += factor * (200_000 + self.random(1_500_000));
            let code = [0x78, 0x7b, 0x7c, 0x400, 0x72, 0x60]
                [usize::try_from(self.random(6)).expect("small")];
            let exit = [id, ("exit_reason", code), ("isa", 2)];
            self.add_event(now_ns, thread, "kvm_exit", &exit);
            let limit = 1 << (9 + self.random(5));
            now_ns += 800 + self.random(limit);
            match code {
                0x78 => {
                    let halted_ns = 20_000 + self.random(6_000_000);
                    now_ns += halted_ns;
                    self.add_event(now_ns, thread, "kvm_vcpu_wakeup", &[("ns", halted_ns)]);
                }
                0x7b => {
                    let port = 0x3f8 + self.random(2);
                    self.add_event(now_ns, thread, "kvm_pio", &[("port", port), ("rw", 1)]);
                    self.add_event(now_ns, thread, "kvm_userspace_exit", &[("reason", 2)]);
                    now_ns += 15_000 + self.random(400_000);
                }
                0x7c => {
                    let register = [("ecx", 0x80b), ("write", 1)];
                    self.add_event(now_ns, thread, "kvm_msr", &register);
                }
                _ => {}
            }
            now_ns += 500;
            self.add_event(now_ns, thread, "kvm_entry", &[id]);
        }
    }

    fn batches(mut self, seconds: u64) -> Vec<Batch> {
        self.events.sort_by_key(|it| it.0);
        let end_ns = START_NS + seconds * 1_000_000_000;
        let mut batches = Vec::new();
        let mut bytes = BytesMut::new();
        for (number, (time_ns, tgid, tid, slot, body)) in self.events.iter().enumerate() {
            let id = self.formats[*slot].id;
            let slot = u16::try_from(*slot).expect("few");
            push_record(&mut bytes, header(*time_ns, (*tgid, *tid), slot, id), body);
            if number % 4000 == 3999 {
                batches.push(Batch::new(bytes.split().freeze()));
            }
        }
        for (tgid, name) in (FIRST_TGID..).step_by(100).zip(VM_NAMES) {
            let mut comm = [0; 16];
            comm[..name.len()].copy_from_slice(name.as_bytes());
            push_record(
                &mut bytes,
                header(end_ns, (tgid, tgid), THREAD_END_SLOT, 0),
                &comm,
            );
        }
        batches.push(Batch::new(bytes.freeze()));
        batches
    }
}

fn header(time_ns: u64, thread: (u32, u32), slot: u16, id: u16) -> RecordHeader {
    RecordHeader {
        time_ns,
        thread,
        cpu: u16::try_from(thread.1 % 4).expect("small"),
        slot,
        id,
    }
}

/// Writes a recording with these contents.
pub(crate) fn write_recording(path: &Path, contents: RecordingContents) {
    let names: &[_] = match contents.has_exits {
        true => &EVENTS,
        false => &[WAKEUP],
    };
    let (events, formats) = recorded_events(names);
    let mut generator = EventGenerator {
        formats,
        random_state: 42 + u64::from(contents.host) * 16 + u64::from(contents.day),
        events: Vec::new(),
    };
    let until_ns = START_NS + contents.seconds * 1_000_000_000 - 20_000_000;
    for tgid in (FIRST_TGID..).step_by(100).take(VM_NAMES.len()) {
        for vcpu in 0..2u8 {
            let tid = tgid + 1 + u32::from(vcpu);
            generator.add_vcpu((tgid, tid), vcpu.into(), until_ns);
        }
    }
    let facts = HostFacts {
        machine: Machine {
            hostname: match contents.is_anonymous {
                true => "(none)".into(),
                false if contents.host == 0 => "<host> & \"co\"".into(),
                false => format!("host{}", contents.host),
            },
            release: "6.18.0".into(),
            arch: "x86_64".into(),
            cpus: (8, 8),
            cpu_desc: Some("AMD EPYC".into()),
            ..Machine::default()
        },
        command: vec![
            "kvm-collector".into(),
            "record".into(),
            "-d".into(),
            "6s".into(),
        ],
        clocks: (
            1_760_000_000_000_000_000 + u64::from(contents.day) * 86_400_000_000_000,
            START_NS,
        ),
        ..HostFacts::default()
    };
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &events, &facts).expect("a file");
    let last_tgid = FIRST_TGID + 200;
    let last_vm = VmName {
        name: format!("web-1-{last_tgid}"),
        uuid: VmUuid::parse(UUID),
    };
    recorder.set_vm_name(last_tgid, last_vm);
    for (number, batch) in generator.batches(contents.seconds).iter().enumerate() {
        recorder.record_batch(batch).expect("cannot write");
        if contents.has_loss && number == 2 {
            recorder.record_loss(Some(0), 1234, START_NS + contents.seconds * 400_000_000);
        }
    }
    recorder.finish().expect("cannot write");
}
