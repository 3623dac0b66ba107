//! Benchmark of reading a recording, with kvm-collector and with perf:
//! `cargo bench -p kvm-collector --bench recording`.
//!
//! Whole processes are timed. They alternate, so that other load on the machine affects them equally. The recording is
//! written to TMPDIR. It has KVM_EVENTS events, by default 1 million (104 MB).

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

const VCPUS: u64 = 8;

/// Records `count` events, 500 ns apart. Each vCPU has an exit and an entry in turn.
fn record(path: &Path, count: u64) {
    let event = |(name, text): (&str, &str)| RecordedEvent {
        system: "kvm".into(),
        name: name.into(),
        id: Format::parse("kvm", text).expect("a format").id,
        format: text.into(),
    };
    let mut facts = HostFacts::default();
    // perf selects the table of exit reasons by this id.
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
            recorder.record_batch(&batch).expect("cannot write");
        }
    }
    assert_eq!(recorder.finish().expect("cannot write").events, count);
}

/// Returns how many seconds a command takes; `None` if it fails or is not installed.
fn time_seconds(command: &[&str]) -> Option<f64> {
    let start = Instant::now();
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let seconds = start.elapsed().as_secs_f64();
    status.is_ok_and(|it| it.success()).then_some(seconds)
}

/// A file that is removed when dropped.
struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn main() {
    // `cargo test --all-targets` runs this program without `--bench`.
    if !env::args().any(|it| it == "--bench") {
        return;
    }
    let count = env::var("KVM_EVENTS").map_or(1_000_000, |it| it.parse().expect("a number"));
    let name = format!("kvm-collector-bench-{}.data", std::process::id());
    let file = TemporaryFile(env::temp_dir().join(name));
    record(&file.0, count);
    let path = file.0.to_str().expect("a name in UTF-8");
    let collector = env!("CARGO_BIN_EXE_kvm-collector");
    let commands = [
        ("kvm-collector stat", vec![collector, "stat", "-i", path]),
        ("kvm-collector exits", vec![collector, "exits", "-i", path]),
        (
            "perf kvm stat report",
            vec!["perf", "kvm", "-i", path, "stat", "report"],
        ),
    ];
    let mut times = commands.each_ref().map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, command), times) in commands.iter().zip(&mut times) {
            times.extend(time_seconds(command));
        }
    }
    for ((name, _), mut times) in commands.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        match times.get(times.len() / 2) {
            Some(median) => {
                let ns_per_event = median * 1e9 / count as f64;
                println!(
                    "{name:20} {median:6.3} s, {ns_per_event:4.0} ns per event ({count} events, median of {ROUNDS})"
                );
            }
            None => println!("{name:20} failed or not installed"),
        }
    }
}
