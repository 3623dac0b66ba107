//! Several recordings in one report.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use kvm_collector::{host::machine::Machine, recording::HostFacts};
use serde_json::Value;

use crate::{
    collector::{CPUID, HLT, contended_vms, report},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit},
    temporary_folder::TemporaryFolder,
};

const NS_PER_S: u64 = 1_000_000_000;

/// 2026-11-25T13:17:08Z.
pub(crate) const DATE_NS: u64 = 1_795_612_628 * NS_PER_S;

pub(crate) fn facts(host: &str, kernel: &str, wall_ns: u64) -> HostFacts {
    HostFacts {
        machine: Machine {
            hostname: host.to_owned(),
            release: kernel.to_owned(),
            ..Machine::default()
        },
        clocks: (wall_ns, 0),
        ..HostFacts::default()
    }
}

/// Returns exits of a vCPU with different durations, on VMX or SVM.
fn exits(isa: u64, thread: (u32, u32), times_ns: &[u64]) -> Vec<RecordedItem> {
    let mut items = Vec::new();
    let mut at = 1_000;
    for (number, time_ns) in times_ns.iter().enumerate() {
        let reason = match (isa, number % 3) {
            (1, 0) => 12,
            (1, _) => 10,
            (_, 0) => HLT,
            (_, _) => CPUID,
        };
        let port = number as u64 % 4;
        items.extend([
            event(
                at,
                thread,
                "kvm_exit",
                &[("isa", isa), ("exit_reason", reason), ("vcpu_id", 0)],
            ),
            event(at + 1, thread, "kvm_pio", &[("port", port), ("size", 1)]),
            entry(at + time_ns, thread, 0),
        ]);
        at += time_ns + 700;
    }
    items
}

/// Returns recordings of two hosts, with the same process ids. The first host has two recordings.
fn recordings() -> Vec<RecordingFile> {
    let thread = (VM_A, VM_A + 1);
    let long: Vec<_> = (1..200).map(|it| it * 317).collect();
    let mut with_loss = contended_vms();
    with_loss.push(RecordedItem::Lost {
        time_ns: 2_000_000,
        name: None,
        count: 17,
    });
    vec![
        RecordingFile::of_host(
            &facts("amd", "6.1", DATE_NS),
            &exits(2, thread, &[500, 600, 70_000]),
        ),
        RecordingFile::of_host(&facts("amd", "6.1", DATE_NS + NS_PER_S), &with_loss),
        RecordingFile::of_host(
            &facts("intel", "6.12", DATE_NS - NS_PER_S),
            &exits(1, thread, &long),
        ),
    ]
}

/// Runs a command on several inputs.
fn run(args: &[&str], inputs: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(args);
    for input in inputs {
        command.arg("-i").arg(input);
    }
    command.output().expect("cannot run kvm-collector")
}

fn report_on(args: &[&str], inputs: &[&Path]) -> Value {
    let output = run(args, inputs);
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Sums of numbers, by name. Extremes are the smallest and the largest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums(BTreeMap<String, u64>);

impl Sums {
    /// Adds the numbers of a report. `host` is the host of rows that have none.
    fn add(&mut self, report: &Value, host: &str) {
        self.add_number("elapsed_ns".to_owned(), &report["elapsed_ns"]);
        for (name, value) in report["loss"].as_object().expect("losses") {
            self.add_number(format!("loss {name}"), value);
        }
        let of_host = |row: &Value| row["host"].as_str().unwrap_or(host).to_owned();
        for event in report["events"].as_array().into_iter().flatten() {
            self.add_number(event["event"].to_string(), &event["count"]);
        }
        for vm in report["vms"].as_array().into_iter().flatten() {
            for event in vm["events"].as_array().into_iter().flatten() {
                let name = format!(
                    "{} {} {} {}",
                    of_host(vm),
                    vm["vm"],
                    vm["pid"],
                    event["event"]
                );
                self.add_number(name, &event["count"]);
            }
        }
        for table in ["rows", "vcpus"] {
            for row in report[table].as_array().into_iter().flatten() {
                let id = ["vm", "pid", "vcpu", "reason", "isa"].map(|it| row[it].to_string());
                let id = format!("{table} {} {id:?}", of_host(row));
                for field in [
                    "count",
                    "open",
                    "untimed",
                    "total_ns",
                    "idle_ns",
                    "kernel_ns",
                    "vmm_ns",
                    "halted_ns",
                    "guest_ns",
                    "open_ns",
                ] {
                    self.add_number(format!("{id} {field}"), &row[field]);
                }
                for bucket in row["histogram"].as_array().into_iter().flatten() {
                    self.add_number(format!("{id} from {}", bucket["from_ns"]), &bucket["count"]);
                }
                for cause in row["causes"].as_array().into_iter().flatten() {
                    let name = format!("{id} cause {}", cause["cause"]);
                    self.add_number(name.clone(), &cause["at_least"]);
                    self.add_number(format!("{name} time"), &cause["total_ns"]);
                }
                if row["total_ns"].as_u64() > Some(0) {
                    for (field, merge) in [
                        ("min_ns", u64::min as fn(u64, u64) -> u64),
                        ("max_ns", u64::max),
                    ] {
                        let Some(ns) = row[field].as_u64() else {
                            continue;
                        };
                        let extreme = self.0.entry(format!("{id} {field}")).or_insert(ns);
                        *extreme = merge(*extreme, ns);
                    }
                }
            }
        }
    }

    fn add_number(&mut self, name: String, value: &Value) {
        let number = value.as_u64().unwrap_or(0);
        if number > 0 {
            *self.0.entry(name).or_default() += number;
        }
    }
}

#[test]
fn the_report_on_all_is_the_sum_of_single_reports() {
    let files = recordings();
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    for args in [
        &["stat", "--json", "--per-vm"][..],
        &[
            "stat", "--json", "-e", "kvm_exit", "--from", "1us", "--until", "500us",
        ],
        &[
            "exits",
            "--json",
            "--hist",
            "--causes",
            "9",
            "--by",
            "vm,vcpu,reason",
        ],
        &["exits", "--json", "--hist", "--by", "host,reason"],
        &[
            "exits", "--json", "--by", "vm", "--vm", "*", "--reason", "hlt",
        ],
        &[
            "exits",
            "--json",
            "--by",
            "vm,reason",
            "--from",
            "1us",
            "--until",
            "500us",
        ],
    ] {
        let mut expected = Sums::default();
        for file in &files {
            let single = report(file, args);
            expected.add(&single, single["host"].as_str().expect("a host"));
        }
        let all = report_on(args, &paths);
        let mut sums = Sums::default();
        sums.add(&all, "?");
        assert!(sums.0.len() > 1, "{args:?}: {sums:?}");
        assert_eq!(sums, expected, "{args:?}");
    }
}

#[test]
fn percentiles_are_those_of_all_exits_together() {
    let times: Vec<_> = (1..300).map(|it| it * it * 11).collect();
    let (first, second) = (
        exits(2, (VM_A, VM_A + 1), &times),
        exits(2, (VM_B, VM_B + 1), &[900; 40]),
    );
    let files =
        [&first, &second].map(|items| RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), items));
    let together = RecordingFile::new(&[first, second].concat());
    let args = ["exits", "--json", "--hist", "--percentiles", "1,50,90,99.9"];
    let both = report_on(&args, &files.each_ref().map(RecordingFile::path));
    assert_eq!(both["rows"], report(&together, &args)["rows"]);
}

#[test]
fn the_report_says_which_recordings_it_sums_up() {
    let files = recordings();
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    for command in ["stat", "exits"] {
        let report = report_on(&[command, "--json"], &paths);
        assert_eq!(report["host"], Value::Null);
        assert_eq!(report["kernel"], Value::Null);
        assert_eq!(report["input"], Value::Null);
        let inputs = report["inputs"].as_array().expect("inputs");
        let fact = |name: &str| inputs.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
        assert_eq!(fact("host"), ["amd", "amd", "intel"]);
        assert_eq!(fact("kernel"), ["6.1", "6.1", "6.12"]);
        assert_eq!(
            fact("path"),
            paths
                .iter()
                .map(|it| it.to_str().unwrap())
                .collect::<Vec<_>>()
        );
        let elapsed = inputs.iter().map(|it| it["elapsed_ns"].as_u64().unwrap());
        assert_eq!(report["elapsed_ns"], elapsed.sum::<u64>());
        assert_eq!(report["start"], "2026-11-25T13:17:07.000001000Z");
        assert_eq!(report["start"], inputs[2]["start"]);
        assert_eq!(report["end"], inputs[1]["end"]);
    }
    // Recordings of one host have its name.
    let report = report_on(&["exits", "--json", "--by", "vm"], &paths[..2]);
    assert_eq!(
        (&report["host"], &report["kernel"]),
        (&"amd".into(), &"6.1".into())
    );
    assert_eq!(report["by"], serde_json::json!(["vm"]));
    // Those of several hosts are listed, and rows by VM are also by host.
    let output = run(&["exits", "--by", "vm"], &paths);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("sums of 3 recordings"), "{text}");
    assert!(text.contains("host   VM"), "{text}");
    // The heading has the same facts as that of one recording.
    for (count, heading) in [
        (2, "of amd, Linux 6.1, recorded in 2 files; VM *"),
        (
            3,
            "of amd and intel, Linux 6.1 and 6.12, recorded in 3 files; VM *",
        ),
    ] {
        let output = run(&["stat", "--vm", "*"], &paths[..count]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().nth(1).unwrap_or_default();
        assert!(first.ends_with(heading), "{first}");
        let mut lines = text.lines();
        let has_period = lines.any(|it| it.starts_with("  2026-11-2") && it.contains(" to "));
        assert!(has_period, "{text}");
    }
    let csv = run(&["exits", "--csv", "--by", "vm"], &paths);
    let csv = String::from_utf8_lossy(&csv.stdout);
    assert!(csv.contains(",intel,"), "{csv}");
}

#[test]
fn without_dates_the_period_is_the_recorded_time() {
    let files = recordings();
    files[1].change_attrs(|attr| attr[43] &= !2);
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    let report = report_on(&["exits", "--json"], &paths);
    assert_eq!(
        (&report["start"], &report["end"]),
        (&Value::Null, &Value::Null)
    );
    let output = run(&["exits"], &paths);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let footer = text.lines().find_map(|it| it.split_once(" exits in "));
    let (_, footer) = footer.expect("a footer");
    let (duration, _) = footer.split_once(';').expect("a time");
    assert!(text.lines().any(|it| it.trim() == duration), "{text}");
}

/// Copies recordings to a folder, and returns their paths.
pub(crate) fn copy_to(folder: &TemporaryFolder, files: &[RecordingFile]) -> Vec<PathBuf> {
    let copy = |(number, file): (usize, &RecordingFile)| {
        let copy = folder.file(&format!("host-{number}.data"));
        fs::copy(file.path(), &copy).expect("cannot copy");
        copy
    };
    files.iter().enumerate().map(copy).collect()
}

#[test]
fn all_recordings_of_a_directory_or_a_glob_are_read() {
    let folder = TemporaryFolder::new();
    let files = recordings();
    let copies = copy_to(&folder, &files);
    let readme = folder.file("readme.txt");
    fs::write(&readme, "recordings of two hosts").expect("cannot write");
    fs::create_dir(folder.file("empty")).expect("cannot create");
    let args = ["exits", "--json", "--by", "vm,reason"];
    let copy_paths: Vec<_> = copies.iter().map(PathBuf::as_path).collect();
    let expected = report_on(&args, &copy_paths);
    let directory = copies[0].parent().expect("a folder");
    let glob = directory.join("host-[0-9].d*");
    let glob_above = directory.parent().expect("a folder").join(format!(
        "{}*/host-*",
        directory
            .file_name()
            .expect("a name")
            .to_str()
            .expect("text")
    ));
    for inputs in [
        &[directory][..],
        &[&glob],
        &[&glob_above],
        &[copies[0].as_path(), directory],
        &[&glob, &copies[2]],
    ] {
        let output = run(&args, inputs);
        assert!(output.status.success(), "{inputs:?}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report, expected, "{inputs:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        let reads_all = inputs.contains(&directory);
        assert_eq!(
            message.contains("readme.txt: no recording, but text"),
            reads_all,
            "{message}"
        );
        assert_eq!(
            message.contains("named more than once"),
            inputs.len() > 1,
            "{message}"
        );
    }
    // `-i a b`, as a shell expands a glob.
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .arg("-i")
        .args(&copies)
        .output()
        .expect("cannot run kvm-collector");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON"),
        expected
    );
    // A directory with one recording is that recording.
    fs::remove_file(&copies[1]).expect("cannot remove");
    fs::remove_file(&copies[2]).expect("cannot remove");
    let single = report_on(&args, &[directory]);
    assert_eq!(single["input"], copies[0].to_str().expect("UTF-8"));
    // Nothing to read is an error.
    fs::remove_file(&copies[0]).expect("cannot remove");
    for (input, part) in [
        (directory, "the only file is no recording"),
        (&folder.file("empty"), "there is no file"),
        (&directory.join("*.data"), "there is no file"),
        (&directory.join("*.txt"), "the only file is no recording"),
    ] {
        let output = run(&args, &[input]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(
            message.contains("no recording in") && message.contains(part),
            "{message}"
        );
    }
    // Only the first files that are no recordings are named.
    for number in 0..20 {
        fs::write(directory.join(format!("{number}.log")), "text").expect("cannot write");
    }
    let output = run(&args, &[directory]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("skipped 18 more files in "), "{message}");
    let skipped = message.lines().filter(|it| it.contains(": skipped "));
    for line in skipped {
        let rest = line.replace(directory.to_str().expect("UTF-8"), "");
        assert!(rest.len() <= 80, "a long warning: {line}");
    }
    assert_eq!(message.lines().count(), 5, "{message}");
    // A file that is named must be a recording.
    let output = run(&args, &[files[0].path(), &readme]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn options_that_make_no_sense_for_several_recordings_are_refused() {
    let files = recordings();
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    for (args, part) in [
        (
            &["exits", "-I", "1s"][..],
            "-I cannot be used with several recordings",
        ),
        (
            &["stat", "-I", "1s"],
            "-I cannot be used with several recordings",
        ),
        (
            &["exits", "--slow", "1ms"],
            "--slow cannot be used with several recordings",
        ),
        (&["stat", "--from", "@1"], "each host has its own clock"),
        (&["trace"], "`trace` reads one recording"),
        (
            &["exits", "-i", "-"],
            "standard input cannot be read together",
        ),
        (
            &["exits", "--reason", "nosuch"],
            "no exit reason matches `nosuch`",
        ),
        (&["exits", "--from", "5s"], "outside of all 3 recordings"),
        (
            &["exits", "--by", "vm", "--baseline", "x"],
            "--baseline cannot be used with rows by host",
        ),
    ] {
        let output = run(args, &paths);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(part), "{args:?}: {message}");
        assert_eq!(output.stdout, b"", "{args:?}");
    }
}

#[test]
fn a_selection_need_not_match_in_every_recording() {
    let files = recordings();
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    // Only one recording has this process.
    let pid = VM_B.to_string();
    let selected = report_on(&["exits", "--json", "-p", &pid], &paths);
    assert_eq!(selected["count"], 11);
    let output = run(&["exits", "-p", "1"], &paths);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("no events of process 1 in the recordings"),
        "{message}"
    );
    // A recording that has no events in the requested range is left out, with a warning.
    for command in ["stat", "exits"] {
        let args = [
            command,
            "--json",
            "--from",
            "2026-11-25T13:17:08Z",
            "--until",
            "2026-11-25T13:17:08.5Z",
        ];
        let output = run(&args, &paths);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(message.matches("left out").count(), 2, "{message}");
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(all["inputs"].as_array().map(Vec::len), Some(1));
        let single = report(&files[0], &[command, "--json"]);
        for field in ["count", "rows", "events", "elapsed_ns", "start"] {
            assert_eq!(all[field], single[field], "{command} {field}");
        }
    }
}

#[test]
fn the_sum_can_be_compared_with_an_earlier_report() {
    let files = recordings();
    let paths: Vec<_> = files.iter().map(RecordingFile::path).collect();
    let folder = TemporaryFolder::new();
    let earlier = folder.file("earlier.json");
    let all = run(&["exits", "--json"], &paths);
    fs::write(&earlier, all.stdout).expect("cannot write");
    let baseline = earlier.to_str().expect("UTF-8");
    let diff = report_on(&["exits", "--json", "--baseline", baseline], &paths);
    assert_eq!(diff["view"], "exits_diff");
    for row in diff["rows"].as_array().expect("rows") {
        assert_eq!(row["count"], row["baseline_count"], "{row}");
        assert_eq!(row["rate_per_s"]["change"], 0.0, "{row}");
    }
    // Rates of all hosts are sums, as in `stat`, and not averages.
    let rates = diff["rows"].as_array().into_iter().flatten();
    let rates = rates.filter_map(|row| row["rate_per_s"]["now"].as_f64());
    let stat = report_on(&["stat", "--json", "-e", "kvm_exit"], &paths);
    let expected = stat["events"][0]["rate_per_s"].as_f64().expect("a rate");
    let sum: f64 = rates.sum();
    assert!((sum - expected).abs() < 1e-6 * expected, "{sum} {expected}");
    let all = report_on(&["exits", "--json"], &paths);
    let number = |field: &str| all[field].as_f64().expect("a number");
    let average = number("count") * 1e9 / number("elapsed_ns");
    assert!(sum > 1.5 * average, "{sum}, but {average} on average");
}

#[test]
fn recordings_of_one_host_at_the_same_time_are_warned_of() {
    let files = [0, 1, 2, 3, 4, 5].map(|number| {
        let facts = facts("amd", "6.1", DATE_NS + number * 1000);
        RecordingFile::of_host(
            &facts,
            &[
                exit(1_000, (VM_A, VM_A), 0, CPUID),
                entry(9_000, (VM_A, VM_A), 0),
            ],
        )
    });
    let output = run(&["exits"], &files.each_ref().map(RecordingFile::path));
    let message = String::from_utf8_lossy(&output.stderr);
    let pairs = message.matches("in both are counted twice").count();
    assert_eq!(pairs, 3, "{message}");
    assert!(
        message.contains("counted twice: 2 more recordings"),
        "{message}"
    );
}
