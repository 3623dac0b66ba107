//! Everything that parses text or bytes from outside, as functions of arbitrary bytes. None may panic, and all must end soon.
//!
//! The crate in `fuzz/` runs them with cargo-fuzz, and the test `fuzz` with mutations of the seeds in `seeds.rs`.

#[path = "../consistency/all_views.rs"]
mod all_views;

use std::{
    fs::{self, File},
    io::{Seek as _, Write as _},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use bytes::Bytes;
use clap::Parser as _;
use kvm_collector::{
    cli::Cli,
    host::{VmNames, kernel, kvm, machine, tracefs, vm},
    model::Batch,
    recording::Reader,
    source::Recording,
    tracefs::{Format, ReasonNames, events},
    view::{Baseline, Filters, MAX_BASELINE_FILE_BYTES},
};

/// The formats that the targets use.
static FORMATS: LazyLock<Vec<Format>> = LazyLock::new(|| {
    let parse = |system, text| Format::parse(system, text).expect("a fixture");
    vec![
        parse(
            "kvm",
            include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_exit"),
        ),
        parse(
            "kvm",
            include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_pio"),
        ),
        parse(
            "kvm",
            include_str!("../fixtures/formats/6.18-x86_64/kvm/kvm_msr"),
        ),
        parse(
            "sched",
            include_str!("../fixtures/formats/6.18-x86_64/sched/sched_switch"),
        ),
    ]
});

/// The command line, one word per line: sizes, durations, times, numbers, lists, globs and names of options.
pub fn arguments(data: &[u8]) {
    let words = String::from_utf8_lossy(data);
    let words = std::iter::once("kvm-collector").chain(words.split('\n'));
    let _ = Cli::try_parse_from(words);
}

/// A filter on fields, then a NUL byte, then a raw event that it is applied to.
pub fn filter(data: &[u8]) {
    let (text, record) = split(data);
    let text = String::from_utf8_lossy(text).into_owned();
    if let Ok(filters) = Filters::new(&[text], &FORMATS) {
        for slot in 0..FORMATS.len() {
            let _ = filters.matches(slot, record);
        }
    }
}

/// Patterns for events and exit reasons, one per line.
pub fn patterns(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let patterns: Vec<_> = text.lines().map(str::to_owned).collect();
    let all: Vec<_> = FORMATS.iter().map(Format::event_name).collect();
    let _ = events::select(&all, &patterns);
    let reasons = ReasonNames::new(FORMATS.first());
    let _ = reasons.matching_codes(&patterns, Some(2));
}

/// The file of `exits --baseline`.
pub fn baseline(data: &[u8]) {
    let _ = Baseline::read(data, MAX_BASELINE_FILE_BYTES);
}

/// Records of a ring.
pub fn ring(data: &[u8]) {
    let batch = Batch::new(Bytes::copy_from_slice(data));
    let mut bytes = 0;
    for (offset, record) in batch.records() {
        bytes += record.raw.len();
        let _ = (record.thread_end_comm(), record.slow_exit());
        assert!(batch.record_at(offset).is_some(), "no record at {offset}");
    }
    assert!(bytes <= 2 * data.len(), "more bytes than there are");
}

/// The files of `/proc` and `/sys` that describe VMs and the host. Each part of the input, up to a `\xff`, becomes one file.
pub fn proc_files(data: &[u8]) {
    const FILES: [&str; 17] = [
        "proc/9/comm",
        "proc/9/cmdline",
        "proc/9/cgroup",
        "proc/9/stat",
        "proc/9/status",
        "proc/9/task/9/comm",
        "proc/9/task/9/syscall",
        "proc/9/task/9/stat",
        "proc/cpuinfo",
        "proc/meminfo",
        "proc/self/mounts",
        "proc/sys/kernel/random/boot_id",
        "proc/sys/kernel/osrelease",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/possible",
        "sys/kernel/security/lockdown",
        "sys/module/kvm_amd/parameters/nested",
    ];
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = PathBuf::from(format!(
            "/dev/shm/kvm-collector-fuzz-{}",
            std::process::id()
        ));
        for file in FILES {
            let folder = root.join(file);
            fs::create_dir_all(folder.parent().expect("a folder")).expect("cannot create a folder");
        }
        fs::create_dir_all(root.join("proc/9/fd")).expect("cannot create a folder");
        symlink("anon_inode:kvm-vm", root.join("proc/9/fd/3")).expect("cannot create a link");
        symlink("anon_inode:kvm-vcpu:1", root.join("proc/9/fd/4")).expect("cannot create a link");
        root
    });
    let mut parts = data.split(|byte| *byte == 0xff);
    for file in FILES {
        fs::write(ROOT.join(file), parts.next().unwrap_or_default()).expect("cannot write");
    }
    let _ = vm::list(&ROOT.join("proc"));
    let _ = (
        machine::read(&ROOT),
        kernel::read(&ROOT),
        kvm::read(&ROOT),
        tracefs::read(&ROOT),
    );
}

/// Names of VMs as recordings store them, and names of vCPU threads.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names = VmNames::from_lines(&text);
    let lines = names.to_lines();
    assert_eq!(
        VmNames::from_lines(&lines).to_lines(),
        lines,
        "names change when they are stored again"
    );
    for line in text.lines() {
        let _ = kvm_ebpf_common::vcpu_index_in_name(line);
    }
}

/// The text of a format file, a NUL byte and a raw event.
pub fn format(data: &[u8]) {
    let (text, record) = split(data);
    let Ok(format) = Format::parse("kvm", &String::from_utf8_lossy(text)) else {
        return;
    };
    let mut out = Vec::new();
    format.print(record, &mut out);
    format.print_fields(record, &mut out);
    for field in format.fields.iter().take(4) {
        let _ = format.symbolic_name("reason ", &[(&field.name, 0x400)]);
        let _ = format.symbolic_names("", &[(&field.name, 1)]);
    }
}

/// A recording. Its events are counted, timed and printed, in intervals, and drawn as a timeline; the results must agree.
pub fn recording(data: &[u8]) {
    // A file in memory. It is unlinked at once, so that a crash leaves nothing behind.
    let path = format!("/dev/shm/kvm-collector-fuzz-{}.data", std::process::id());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("cannot create a file in /dev/shm");
    let _ = fs::remove_file(&path);
    file.write_all(data)
        .and_then(|()| file.rewind())
        .expect("cannot write to /dev/shm");
    if let Ok(reader) = Reader::new(file, Path::new("fuzzed")) {
        all_views::run_all_views(Recording::new(reader));
    }
}

/// Splits at the first NUL byte.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let first = parts.next().unwrap_or_default();
    (first, parts.next().unwrap_or_default())
}
