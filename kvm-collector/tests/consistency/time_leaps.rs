//! Recordings in which one bit of a time is flipped, so that the clock leaps by up to 292 years: every view ends, in
//! bounded time and with bounded output.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use kvm_collector::source::{Recording, RecordingTime, TimeLimits};

use crate::{
    all_views::run_all_views_within,
    collector::{contended_vms_with_loss, report, reports},
    recording_file::{RecordedItem, RecordingFile},
    temporary_folder::TemporaryFolder,
};

/// Maximum time of a view of a few records. It takes some ms; other tests may run at the same time.
const MAX_TIME: Duration = Duration::from_secs(30);

/// Maximum size of the output of a view of a few records: an HTML report has 100 KB without data.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;

/// Returns some exits of two VMs with context switches, a loss and the end of a thread.
fn items() -> Vec<RecordedItem> {
    contended_vms_with_loss(20)
}

fn time_ns(item: &RecordedItem) -> u64 {
    match item {
        RecordedItem::Event { time_ns, .. }
        | RecordedItem::Lost { time_ns, .. }
        | RecordedItem::ThreadEnd { time_ns, .. } => *time_ns,
    }
}

/// Returns the recordings of some items: finished, killed, and through a pipe.
fn all_layouts() -> [RecordingFile; 3] {
    let items = items();
    [
        RecordingFile::new(&items),
        RecordingFile::unfinished(&items),
        RecordingFile::piped(&items),
    ]
}

/// Returns the offsets of the times of all records, which are different numbers.
fn time_offsets(bytes: &[u8]) -> Vec<usize> {
    let items = items();
    let offsets = items.iter().map(time_ns);
    offsets.flat_map(|it| offsets_of(bytes, it)).collect()
}

/// Returns the offsets of a time, of which there is at least one.
fn offsets_of(bytes: &[u8], time_ns: u64) -> Vec<usize> {
    let all = bytes.windows(8).enumerate();
    let found = all.filter(|(_, it)| *it == time_ns.to_ne_bytes());
    let found: Vec<_> = found.map(|it| it.0).collect();
    assert!(!found.is_empty(), "{time_ns}");
    found
}

/// Flips a bit of the number at an offset.
fn flip(bytes: &[u8], offset: usize, bit: u32) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let number: [u8; 8] = bytes[offset..offset + 8].try_into().expect("8 bytes");
    let number = u64::from_ne_bytes(number) ^ (1 << bit);
    flipped[offset..offset + 8].copy_from_slice(&number.to_ne_bytes());
    flipped
}

#[test]
fn leaps_of_every_record_are_read_in_bounded_time() {
    // The next record gets other bits.
    read_leaps(|offset| {
        (0..64)
            .skip(offset % 8)
            .step_by(8)
            .chain([62, 63])
            .collect()
    });
}

#[test]
#[ignore = "takes a minute; the test above has a sample"]
fn every_leap_of_every_record_is_read_in_bounded_time() {
    read_leaps(|_| (0..64).collect());
}

/// Runs all views with each of some bits flipped in the time of each record. `bits` gets the index of the time.
fn read_leaps(bits: impl Fn(usize) -> Vec<u32>) {
    let every = |interval_ns: u64| TimeLimits {
        interval_ns: Some(interval_ns),
        ..TimeLimits::default()
    };
    let all_limits = [
        every(1_000),
        every(1_000_000_000),
        TimeLimits {
            from: Some(RecordingTime::SinceStart(50_000)),
            until: Some(RecordingTime::SinceStart(1 << 62)),
            ..every(10_000)
        },
    ];
    for file in all_layouts() {
        let bytes = fs::read(file.path()).expect("a file");
        let start = Instant::now();
        for (index, offset) in time_offsets(&bytes).into_iter().enumerate() {
            for bit in bits(index) {
                fs::write(file.path(), flip(&bytes, offset, bit)).expect("a file");
                let limits = all_limits[(index + bit as usize) % all_limits.len()];
                if let Ok(recording) = Recording::open(file.path()) {
                    run_all_views_within(recording, limits);
                }
            }
        }
        assert!(start.elapsed() < 4 * MAX_TIME, "{:?}", start.elapsed());
    }
}

/// Runs a command and returns its exit code. Its output goes to a file.
fn run_bounded(args: &[&str], folder: &TemporaryFolder) -> i32 {
    let (out, err) = (folder.file("stdout"), folder.file("stderr"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"))
        .spawn()
        .expect("the collector runs");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if start.elapsed() > MAX_TIME {
            child.kill().expect("a child");
            child.wait().expect("a child");
            panic!("{args:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    for path in [out, err] {
        let length = fs::metadata(path).expect("a file").len();
        assert!(length <= MAX_OUTPUT_BYTES, "{args:?}: {length} bytes");
    }
    let messages = fs::read_to_string(folder.file("stderr")).expect("text");
    status
        .code()
        .unwrap_or_else(|| panic!("{args:?}: {messages}"))
}

#[test]
fn every_command_ends_after_a_leap() {
    let folder = TemporaryFolder::new();
    let out = folder.file("out");
    let out = out.to_str().expect("UTF-8");
    let commands: [&[&str]; 19] = [
        &["stat"],
        &["stat", "-I", "1ms", "--per-vm"],
        &["exits", "--hist", "--causes", "3", "--advice"],
        &["exits", "-I", "1ms", "--by", "vm,vcpu,reason"],
        &["exits", "-I", "1ms", "--csv"],
        &["exits", "--slow", "1us", "--preempt"],
        &["exits", "--from", "50us", "--until", "1h", "--json"],
        &["exits", "--from", "@0.00005", "-d", "876000h"],
        &["trace", "--per-exit"],
        &["trace", "--time", "wall"],
        &["trace", "--json"],
        &["top", "--once"],
        &["list"],
        &["convert", "--to", "text", "-o", out],
        &["convert", "--to", "csv", "-o", out],
        &["convert", "--to", "json", "-o", out],
        &["convert", "--to", "parquet", "-o", out],
        &["convert", "--to", "perfetto", "-o", out],
        &["convert", "--to", "html", "-o", out],
    ];
    let mut number = 0;
    for file in all_layouts() {
        let bytes = fs::read(file.path()).expect("a file");
        let offsets = time_offsets(&bytes);
        let records = [0, offsets.len() / 2, offsets.len() - 3, offsets.len() - 1];
        for (record, bit) in records
            .into_iter()
            .flat_map(|record| [40, 62, 63].map(|bit| (record, bit)))
        {
            fs::write(file.path(), flip(&bytes, offsets[record], bit)).expect("a file");
            // Each command gets some of the leaps.
            for command in commands.iter().skip(number % 3).step_by(3) {
                let path = file.path().to_str().expect("UTF-8");
                let args = [command, &["-i", path][..]].concat();
                let code = run_bounded(&args, &folder);
                // 2: the range is outside of the recording.
                let messages = fs::read_to_string(folder.file("stderr")).expect("text");
                assert!(code == 0 || code == 2, "{args:?}: {code}: {messages}");
                if let Ok(file) = fs::metadata(out) {
                    assert!(
                        file.len() <= MAX_OUTPUT_BYTES,
                        "{args:?}: {} bytes",
                        file.len()
                    );
                }
            }
            number += 1;
        }
    }
}

/// An unfinished recording is incomplete in every range, also if it is read before the range starts.
#[test]
fn ranges_of_unfinished_recordings_are_incomplete() {
    let file = RecordingFile::unfinished(&items());
    for command in ["stat", "exits"] {
        for from in ["0s", "50us"] {
            let report = report(&file, &[command, "--json", "--from", from]);
            assert_eq!(report["loss"]["damaged"], 1, "{command} {from}");
        }
    }
}

/// The last event is 146 years later: one long interval has the time without events, and the sums are exact.
#[test]
fn a_leap_is_one_interval_and_sums_are_exact() {
    let mut items = items();
    items.truncate(20);
    let file = RecordingFile::new(&items);
    let mut bytes = fs::read(file.path()).expect("a file");
    for offset in offsets_of(&bytes, time_ns(&items[19])) {
        bytes = flip(&bytes, offset, 62);
    }
    fs::write(file.path(), bytes).expect("a file");
    for command in ["stat", "exits"] {
        let total = report(&file, &[command, "--json"]);
        let mut intervals = reports(&file, &[command, "--json", "-I", "10us"]);
        assert_eq!(
            intervals.pop().expect("a total")["elapsed_ns"],
            total["elapsed_ns"]
        );
        assert!(intervals.len() < 45, "{}", intervals.len());
        let sum =
            |field: &str| -> u64 { intervals.iter().filter_map(|it| it[field].as_u64()).sum() };
        assert_eq!(Some(sum("elapsed_ns")), total["elapsed_ns"].as_u64());
        let longest = intervals
            .iter()
            .filter_map(|it| it["elapsed_ns"].as_u64())
            .max();
        assert!(longest.is_some_and(|ns| ns > (1 << 62) - 1_000_000));
        if command == "exits" {
            assert_eq!(Some(sum("count")), total["count"].as_u64());
        }
    }
}

#[test]
fn several_recordings_with_leaps_are_summed() {
    let folder = TemporaryFolder::new();
    let (whole, leap) = (RecordingFile::new(&items()), RecordingFile::new(&items()));
    let bytes = fs::read(leap.path()).expect("a file");
    let offsets = time_offsets(&bytes);
    for bit in [40, 62, 63] {
        fs::write(leap.path(), flip(&bytes, offsets[10], bit)).expect("a file");
        let paths = [&whole, &leap].map(|it| it.path().to_str().expect("UTF-8"));
        for command in [&["stat"][..], &["exits"], &["exits", "--until", "100us"]] {
            let args = [command, &["-i"], &paths[..]].concat();
            assert_eq!(run_bounded(&args, &folder), 0, "{args:?}");
        }
    }
}
