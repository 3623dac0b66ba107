//! How long a recording takes to be read, here and by perf: `cargo bench -p kvm-collector --bench recording`.
//!
//! Whole programs are timed, in turn, so that what else the machine does is shared. KVM_EVENTS says how many events are
//! recorded (1 million, 104 MB), TMPDIR where.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use bytes::BytesMut;
use kvm_collector::{
    model::Batch,
    recording::{HostFacts, RecordedEvent, Recorder, RecorderOptions},
    tracefs::Format,
};
use kvm_ebpf_common::RECORD_RAW_OFFSET;

const FORMATS: [(&str, &str); 2] = [
    (
        "kvm_exit",
        include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_exit"),
    ),
    (
        "kvm_entry",
        include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_entry"),
    ),
];

const ROUNDS: usize = 5;

const TGID: u32 = 1 << 30;

/// Eight vCPUs, each an exit and an entry in turn.
const VCPUS: u64 = 8;

/// Records so many events, 500 ns apart.
fn record(path: &Path, count: u64) {
    let event = |(name, text): (&str, &str)| RecordedEvent {
        system: "kvm".into(),
        name: name.into(),
        id: Format::parse("kvm", text).expect("a format").id,
        format: text.into(),
    };
    let mut facts = HostFacts::default();
    // perf asks it which exit reasons there are.
    facts.machine.cpu_id = Some("AuthenticAMD,25,1,1".to_owned());
    let options = RecorderOptions {
        path: Some(path.to_owned()),
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(options, &FORMATS.map(event), &facts).expect("a file");
    let formats = FORMATS.map(|(_, text)| Format::parse("kvm", text).expect("a format"));
    let mut bytes = BytesMut::new();
    for index in 0..count {
        let vcpu = u32::try_from(index % VCPUS).expect("few");
        let slot = u16::from((index / VCPUS) % 2 == 1);
        let format = &formats[usize::from(slot)];
        let start = bytes.len();
        let length = RECORD_RAW_OFFSET + format.fixed_size();
        bytes.extend_from_slice(&(5_000_000_000 + index * 500).to_ne_bytes());
        bytes.extend_from_slice(&TGID.to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(vcpu % 4).expect("small").to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(length).expect("short").to_ne_bytes());
        bytes.extend_from_slice(&format.id.to_ne_bytes());
        bytes.extend_from_slice(&slot.to_ne_bytes());
        bytes.extend_from_slice(&(TGID + vcpu).to_ne_bytes());
        bytes.resize(start + length, 0);
        let raw = &mut bytes[start + RECORD_RAW_OFFSET..];
        for (name, value) in [("isa", 2), ("exit_reason", 0x78), ("vcpu_id", vcpu)] {
            if let Some(field) = format.field(name) {
                raw[field.offset..field.offset + 4].copy_from_slice(&value.to_ne_bytes());
            }
        }
        if bytes.len() > 900_000 || index + 1 == count {
            let batch = Batch::new(bytes.split().freeze());
            recorder.record_batch(&batch).expect("room");
        }
    }
    assert_eq!(recorder.finish().expect("room").events, count);
}

/// How long a command takes, in seconds; none where there is no such tool.
fn seconds(command: &[&str]) -> Option<f64> {
    let began = Instant::now();
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let took = began.elapsed().as_secs_f64();
    status.is_ok_and(|it| it.success()).then_some(took)
}

/// A file that is gone when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn main() {
    // `cargo test --all-targets` runs it, too, and does not mean it.
    if !env::args().any(|it| it == "--bench") {
        return;
    }
    let count = env::var("KVM_EVENTS").map_or(1_000_000, |it| it.parse().expect("a number"));
    let name = format!("kvm-collector-bench-{}.data", std::process::id());
    let file = Temporary(env::temp_dir().join(name));
    record(&file.0, count);
    let path = file.0.to_str().expect("a name in UTF-8");
    let ours = env!("CARGO_BIN_EXE_kvm-collector");
    let commands = [
        ("kvm-collector stat", vec![ours, "stat", "-i", path]),
        ("kvm-collector exits", vec![ours, "exits", "-i", path]),
        (
            "perf kvm stat report",
            vec!["perf", "kvm", "-i", path, "stat", "report"],
        ),
    ];
    let mut times = commands.each_ref().map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, command), times) in commands.iter().zip(&mut times) {
            times.extend(seconds(command));
        }
    }
    for ((name, _), mut times) in commands.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        match times.get(times.len() / 2) {
            Some(median) => {
                let ns_each = median * 1e9 / count as f64;
                println!(
                    "{name:20} {median:6.3} s, {ns_each:4.0} ns an event (of {count}; median of {ROUNDS})"
                );
            }
            None => println!("{name:20} not here, or it failed"),
        }
    }
}
