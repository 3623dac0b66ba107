//! Recordings of simulated vCPUs, in the format of `record`.

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
use kvm_ebpf_common::RECORD_HEADER_BYTES;

/// The VM's process and the thread of its first vCPU. No real process has this id.
pub(crate) const TGID: u32 = 1 << 30;

pub(crate) const START_NS: u64 = 5_000_000_000;

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

print fmt: \"%d ==> %d\", REC->prev_pid, REC->next_pid
";

const EVENTS: [(&str, &str); 5] = [
    ("kvm", "kvm_entry"),
    ("kvm", "kvm_exit"),
    ("kvm", "kvm_userspace_exit"),
    ("kvm", "kvm_vcpu_wakeup"),
    ("sched", "sched_switch"),
];

/// A temporary folder, which is removed when dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvm-collector-convert-{}-{number}", std::process::id());
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

/// Writes the events of vCPUs to a recording.
struct RecordingWriter {
    recorder: Recorder,
    formats: Vec<Format>,
    bytes: BytesMut,
    newest_ns: u64,
}

impl RecordingWriter {
    fn create(path: &Path) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
        let events = EVENTS.map(|(system, name)| {
            let path = folder.join("6.18-x86_64").join(system).join(name);
            let format = match name {
                "sched_switch" => SWITCH.to_owned(),
                _ => fs::read_to_string(path).expect("a format"),
            };
            RecordedEvent {
                system: system.into(),
                name: name.into(),
                id: Format::parse(system, &format).expect("a format").id,
                format,
            }
        });
        let formats = events
            .iter()
            .map(|it| Format::parse(&it.system, &it.format).expect("a format"));
        let formats = formats.collect();
        let options = RecorderOptions {
            path: Some(path.to_owned()),
            ..RecorderOptions::default()
        };
        let facts = HostFacts {
            clocks: (1_700_000_000_000_000_000, START_NS),
            ..HostFacts::default()
        };
        Self {
            recorder: Recorder::new(options, &events, &facts).expect("a file"),
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
        (tgid, tid): (u32, u32),
        cpu: u32,
        at_ns: u64,
        name: &str,
        values: &[(&str, u64)],
    ) {
        let slot = EVENTS.iter().position(|it| it.1 == name).expect("a name");
        let format = &self.formats[slot];
        let mut raw = vec![0; format.fixed_size()];
        for (name, value) in values {
            let field = format.field(name).expect("a field");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_le_bytes()[..field.size]);
        }
        let body = &raw[8..];
        let length = u16::try_from(RECORD_HEADER_BYTES + body.len()).expect("short");
        self.newest_ns = START_NS + at_ns;
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&self.newest_ns.to_ne_bytes());
        bytes.extend_from_slice(&tgid.to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(cpu).expect("few").to_ne_bytes());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&format.id.to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(slot).expect("few").to_ne_bytes());
        bytes.extend_from_slice(&tid.to_ne_bytes());
        bytes.extend_from_slice(body);
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

pub(crate) const HLT: u64 = 0x78;
pub(crate) const IO: u64 = 0x7b;
pub(crate) const NPF: u64 = 0x400;

/// Writes a recording with one exit of each kind: with each part, with a loss, and in progress at the end.
pub(crate) fn write_one_exit_of_each_kind(path: &Path) {
    let mut writer = RecordingWriter::create(path);
    // Guest from 1000 to 2000 ns, then 500 ns in the kernel.
    writer.add_entry(1_000, 0);
    writer.add_exit(2_000, 0, NPF);
    writer.add_entry(2_500, 0);
    // In the VMM from 3100 ns, and preempted there from 3300 to 3600 ns.
    writer.add_exit(3_000, 0, IO);
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
    let mut writer = RecordingWriter::create(path);
    let mut reasons = [NPF, IO, HLT, 0x7c, 0x60].into_iter().cycle();
    for number in 0..exits {
        let vcpu = u32::try_from(number % 4).expect("few");
        let at_ns = number * 1_000;
        writer.add_exit(at_ns, vcpu, reasons.next().unwrap_or(IO));
        if number % 5 == 1 {
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
