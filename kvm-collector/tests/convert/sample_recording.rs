//! Recordings of simulated vCPUs, in the format of `record`.

use std::path::Path;

use bytes::BytesMut;
use kvm_collector::{
    host::machine::Machine,
    model::{Batch, VmName, VmUuid},
    recording::{HostFacts, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET};

use crate::{
    raw_event::raw_event,
    raw_record::{RecordHeader, push_record, recorded_events},
};

/// The VM's process and the thread of its first vCPU. No real process has this id.
pub(crate) const TGID: u32 = 1 << 30;

pub(crate) const START_NS: u64 = 5_000_000_000;

const EVENTS: [(&str, &str); 6] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_vcpu_wakeup"),
    ("sched", "sched_switch"),
    ("kvm", "kvm_pio"),
];

/// The name of the VM.
pub(crate) const VM: &str = "web-1";

/// The UUID of the VM, which is known in only one of the recordings.
pub(crate) const VM_UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

/// The host of the recordings.
pub(crate) const HOST: &str = "host-1";
pub(crate) const BOOT_ID: &str = "0b0c0d0e-0000-4000-8000-000000000001";
pub(crate) const KERNEL: &str = "6.12.0-test";

/// Writes the events of vCPUs to a recording.
struct RecordingWriter {
    recorder: Recorder,
    formats: Vec<Format>,
    bytes: BytesMut,
    newest_ns: u64,
}

impl RecordingWriter {
    fn create(path: &Path, vm: VmName) -> Self {
        Self::create_on(HOST, path, vm)
    }

    fn create_on(host: &str, path: &Path, vm: VmName) -> Self {
        let (events, formats) = recorded_events(&EVENTS);
        let options = RecorderOptions {
            path: Some(path.to_owned()),
            ..RecorderOptions::default()
        };
        let facts = HostFacts {
            machine: Machine {
                hostname: host.to_owned(),
                boot_id: Some(BOOT_ID.to_owned()),
                release: KERNEL.to_owned(),
                ..Machine::default()
            },
            clocks: (1_700_000_000_000_000_000, START_NS),
            ..HostFacts::default()
        };
        let mut recorder = Recorder::new(options, &events, &facts).expect("a file");
        recorder.set_vm_name(TGID, vm);
        Self {
            recorder,
            formats,
            bytes: BytesMut::new(),
            newest_ns: 0,
        }
    }

    /// Adds an event of a vCPU thread, `at_ns` after the start.
    fn add_event(&mut self, at_ns: u64, vcpu: u32, name: &str, values: &[(&str, u64)]) {
        self.add_event_of_thread((TGID, TGID + vcpu), vcpu, at_ns, name, values);
    }

    fn add_event_of_thread(
        &mut self,
        thread: (u32, u32),
        cpu: u32,
        at_ns: u64,
        name: &str,
        values: &[(&str, u64)],
    ) {
        let slot = EVENTS.iter().position(|it| it.1 == name).expect("a name");
        let format = &self.formats[slot];
        let raw = raw_event(format, values);
        self.newest_ns = START_NS + at_ns;
        let header = RecordHeader {
            time_ns: self.newest_ns,
            thread,
            cpu: u16::try_from(cpu).expect("few"),
            slot: u16::try_from(slot).expect("few"),
            id: format.id,
        };
        push_record(
            &mut self.bytes,
            header,
            &raw[RECORD_HEADER_BYTES - RECORD_RAW_OFFSET..],
        );
        if self.bytes.len() > 1 << 16 {
            self.record_batch();
        }
    }

    fn add_exit(&mut self, at_ns: u64, vcpu: u32, reason: u64) {
        let values = [
            ("isa", 2),
            ("exit_reason", reason),
            ("guest_rip", 0xffff_ffff_8100_0000 + at_ns % (1 << 24)),
            ("vcpu_id", vcpu.into()),
        ];
        self.add_event(at_ns, vcpu, "kvm_exit", &values);
    }

    fn add_entry(&mut self, at_ns: u64, vcpu: u32) {
        self.add_event(at_ns, vcpu, "kvm_entry", &[("vcpu_id", vcpu.into())]);
    }

    /// Adds a loss of `kvm_exit` events.
    fn add_loss(&mut self, at_ns: u64, lost: u64) {
        self.record_batch();
        self.recorder.record_loss(Some(1), lost, START_NS + at_ns);
    }

    fn record_batch(&mut self) {
        let batch = Batch::new(self.bytes.split().freeze());
        self.recorder.record_batch(&batch).expect("cannot write");
    }

    fn finish(mut self) {
        self.record_batch();
        self.recorder.finish().expect("cannot write");
    }
}

/// Writes a recording of one exit on a host with this name.
pub(crate) fn write_exit_of_host(path: &Path, host: &str) {
    let mut writer = RecordingWriter::create_on(host, path, VM.into());
    writer.add_exit(1_000, 0, HLT);
    writer.add_entry(2_000, 0);
    writer.finish();
}

pub(crate) const HLT: u64 = 0x78;
pub(crate) const IO: u64 = 0x7b;
pub(crate) const NPF: u64 = 0x400;

/// Writes a recording with one exit of each kind: with each part, with a loss, and in progress at the end.
pub(crate) fn write_one_exit_of_each_kind(path: &Path) {
    let vm = VmName {
        name: VM.to_owned(),
        uuid: VmUuid::parse(VM_UUID),
    };
    let mut writer = RecordingWriter::create(path, vm);
    // Guest from 1000 to 2000 ns, then 500 ns in the kernel.
    writer.add_entry(1_000, 0);
    writer.add_exit(2_000, 0, NPF);
    writer.add_entry(2_500, 0);
    // In the VMM from 3100 ns, and preempted there from 3300 to 3600 ns.
    writer.add_exit(3_000, 0, IO);
    let access = [("port", 0x3f8), ("rw", 1), ("size", 1), ("count", 1)];
    writer.add_event(3_050, 0, "kvm_pio", &access);
    writer.add_event(3_100, 0, "kvm_userspace_exit", &[("reason", 2)]);
    let thread = u64::from(TGID);
    let switch = [("prev_pid", thread), ("next_pid", 0)];
    writer.add_event(3_300, 0, "sched_switch", &switch);
    let switch = [("prev_pid", 0), ("next_pid", thread)];
    writer.add_event_of_thread((0, 0), 0, 3_600, "sched_switch", &switch);
    writer.add_entry(4_000, 0);
    // Halted from 5200 to 5900 ns.
    writer.add_exit(5_000, 0, HLT);
    writer.add_event(5_900, 0, "kvm_vcpu_wakeup", &[("ns", 700)]);
    writer.add_entry(6_000, 0);
    // The entry of this exit is lost.
    writer.add_exit(7_000, 0, NPF);
    writer.add_loss(7_500, 42);
    writer.add_entry(8_000, 0);
    // The exit of another vCPU is in progress at the end.
    writer.add_exit(8_100, 1, HLT);
    writer.add_exit(9_000, 0, IO);
    writer.add_entry(9_100, 0);
    writer.finish();
}

/// Writes a recording of four vCPUs with one exit per us.
pub(crate) fn write_many_exits(path: &Path, exits: u64) {
    let mut writer = RecordingWriter::create(path, VM.into());
    let mut reasons = [NPF, IO, HLT, 0x7c, 0x60].into_iter().cycle();
    for number in 0..exits {
        let vcpu = u32::try_from(number % 4).expect("few");
        let at_ns = number * 1_000;
        writer.add_exit(at_ns, vcpu, reasons.next().unwrap_or(IO));
        // Two accesses to ports. The last one is the cause.
        if number % 5 == 1 {
            let port = [0x3f8, 0x3fd, 0x70][(number / 5 % 3) as usize];
            writer.add_event(at_ns + 40, vcpu, "kvm_pio", &[("port", 0x80), ("rw", 1)]);
            let access = [("port", port), ("rw", number / 15 % 2)];
            writer.add_event(at_ns + 50, vcpu, "kvm_pio", &access);
            writer.add_event(at_ns + 100, vcpu, "kvm_userspace_exit", &[("reason", 2)]);
        }
        if number % 5 == 2 {
            writer.add_event(at_ns + 250, vcpu, "kvm_vcpu_wakeup", &[("ns", 200)]);
        }
        // Every 1000th entry is missing.
        if number % 1000 != 999 {
            writer.add_entry(at_ns + 300 + number % 97, vcpu);
        }
    }
    writer.finish();
}

/// The time of midnight in UTC, after the start.
const MIDNIGHT_NS: u64 = (24 * 3600 - 80_000) * 1_000_000_000;

/// Writes a recording of two days, with three exits on the first day and two on the second. The first exit ends after
/// all others.
pub(crate) fn write_two_days(path: &Path) {
    let mut writer = RecordingWriter::create(path, VM.into());
    writer.add_exit(1_000, 1, HLT);
    writer.add_exit(2_000, 0, IO);
    writer.add_event(2_100, 0, "kvm_pio", &[("port", 0x3f8), ("rw", 1)]);
    writer.add_entry(2_500, 0);
    writer.add_exit(MIDNIGHT_NS - 1_000, 0, NPF);
    writer.add_entry(MIDNIGHT_NS + 500, 0);
    for at_ns in [1_000, 2_000] {
        writer.add_exit(MIDNIGHT_NS + at_ns, 0, NPF);
        writer.add_entry(MIDNIGHT_NS + at_ns + 500, 0);
    }
    writer.add_entry(MIDNIGHT_NS + 5_000, 1);
    writer.finish();
}
