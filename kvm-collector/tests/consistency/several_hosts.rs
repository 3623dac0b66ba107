//! A report on recordings of several hosts says what is true of each of them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use kvm_collector::recording::HostFacts;
use serde_json::{Value, json};

use crate::{
    collector::{CPUID, contended_vms, report},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, exit},
    several::{DATE_NS, copy_to, facts},
    temporary_folder::TemporaryFolder,
};

const NS_PER_S: u64 = 1_000_000_000;

fn run(args: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(args).arg("-i").args(files);
    command.output().expect("cannot run kvm-collector")
}

fn text_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json_of(args: &[&str], files: &[&Path]) -> Value {
    let output = run(args, files);
    serde_json::from_str(&text_of(&output)).expect("JSON")
}

/// Returns the cells of a column of a CSV table.
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut table = csv::Reader::from_reader(csv.as_bytes());
    let headers = table.headers().expect("a header").clone();
    let index = headers.iter().position(|it| it == name).expect("a column");
    let rows = table.records();
    rows.map(|row| row.expect("a row")[index].to_owned())
        .collect()
}

/// Returns `exits` exits of a process in `seconds` seconds.
fn exits(pid: u32, exits: u64, seconds: u64) -> Vec<RecordedItem> {
    let step_ns = seconds * NS_PER_S / exits;
    let of_exit = |number: u64| {
        let at_ns = number * step_ns;
        [
            exit(at_ns, (pid, pid), 0, CPUID),
            entry(at_ns + step_ns, (pid, pid), 0),
        ]
    };
    (0..exits).flat_map(of_exit).collect()
}

/// Returns two recordings of a host at the same time, of one VM each, and one of another host.
fn recordings() -> [RecordingFile; 3] {
    [
        RecordingFile::of_host(&facts("a", "6.1", DATE_NS), &exits(VM_A, 3, 1)),
        RecordingFile::of_host(&facts("a", "6.1", DATE_NS), &exits(VM_B, 5, 1)),
        RecordingFile::of_host(&facts("b", "6.1", DATE_NS), &exits(VM_A, 8, 2)),
    ]
}

#[test]
fn rates_are_those_of_the_time_in_which_a_host_was_recorded() {
    let files = recordings();
    let paths = files.each_ref().map(RecordingFile::path);
    let stat = json_of(&["stat", "--json", "--per-vm", "-e", "kvm_exit"], &paths);
    assert_eq!(stat["elapsed_ns"], 3 * NS_PER_S);
    // 8 exits in 1 s of one host, and 8 exits in 2 s of the other one.
    assert_eq!(stat["events"][0]["count"], 16);
    assert_eq!(stat["events"][0]["rate_per_s"], 12.0);
    let vms = stat["vms"].as_array().expect("VMs");
    let of_vms: Vec<_> = vms
        .iter()
        .map(|vm| json!([vm["host"], vm["elapsed_ns"], vm["events"][0]["rate_per_s"]]))
        .collect();
    let second = NS_PER_S;
    assert_eq!(
        of_vms,
        [
            json!(["a", second, 3.0]),
            json!(["a", second, 5.0]),
            json!(["b", 2 * second, 4.0])
        ]
    );
    let csv = run(&["stat", "--csv", "--per-vm", "-e", "kvm_exit"], &paths);
    assert_eq!(
        column(&text_of(&csv), "rate_per_s"),
        ["3.000", "5.000", "4.000"]
    );
    let elapsed = ["1000000000", "1000000000", "2000000000"];
    assert_eq!(column(&text_of(&csv), "elapsed_ns"), elapsed);
    // The same holds for the rows of `exits`.
    let csv = run(&["exits", "--csv", "--by", "vm", "--sort", "name"], &paths);
    assert_eq!(column(&text_of(&csv), "elapsed_ns"), elapsed);
    let all = json_of(
        &["exits", "--json", "--by", "vm,vcpu", "--sort", "name"],
        &paths,
    );
    for rows in ["rows", "vcpus"] {
        let rows = all[rows].as_array().expect("rows");
        let elapsed_ns: Vec<_> = rows.iter().map(|it| it["elapsed_ns"].to_string()).collect();
        assert_eq!(elapsed_ns, elapsed);
    }
    // Each vCPU was in an exit all the time.
    let text = text_of(&run(&["exits", "--by", "vcpu"], &paths));
    let of_vcpus = text
        .lines()
        .skip_while(|it| !it.contains("where the vCPUs"));
    let shares = of_vcpus.filter(|it| it.contains("100.0"));
    assert_eq!(shares.count(), 3, "{text}");
}

#[test]
fn a_host_without_a_name_has_no_name_for_programs() {
    let items = exits(VM_A, 3, 1);
    let named = RecordingFile::of_host(&facts("a", "6.1", DATE_NS), &items);
    let unnamed = RecordingFile::of_host(&HostFacts::default(), &items);
    let path = unnamed.path().to_str().expect("UTF-8");
    let by_host = ["exits", "--by", "host", "--sort", "name"];
    for (files, hosts) in [
        (
            &[named.path(), unnamed.path()][..],
            &[json!("a"), json!(null)][..],
        ),
        (&[unnamed.path()], &[json!(null)]),
    ] {
        let all = json_of(&[&by_host[..], &["--json"]].concat(), files);
        let rows = all["rows"].as_array().expect("rows");
        let found: Vec<_> = rows
            .iter()
            .map(|it| it.get("host").expect("a host"))
            .collect();
        assert_eq!(found, hosts.iter().collect::<Vec<_>>());
        let csv = text_of(&run(&[&by_host[..], &["--csv"]].concat(), files));
        let cells: Vec<_> = hosts
            .iter()
            .map(|it| it.as_str().unwrap_or_default())
            .collect();
        assert_eq!(column(&csv, "host"), cells);
        let text = text_of(&run(&by_host, files));
        let rows = text
            .lines()
            .skip_while(|it| !it.trim_start().starts_with("host "));
        assert!(
            rows.skip(1).any(|it| it.trim_start().starts_with(path)),
            "{text}"
        );
    }
}

#[test]
fn preempted_time_is_unknown_where_switches_were_not_recorded() {
    let with_switches = RecordingFile::of_host(&facts("a", "6.1", DATE_NS), &contended_vms());
    let without = RecordingFile::without_switches(&facts("b", "6.1", DATE_NS), &contended_vms());
    let files = [with_switches.path(), without.path()];
    let args = ["exits", "--by", "host,vm,vcpu", "--sort", "name", "--json"];
    let all = json_of(&args, &files);
    assert_eq!(all["preempt_watched"], true);
    for rows in ["rows", "vcpus"] {
        for row in all[rows].as_array().expect("rows") {
            let is_known = row["preempted_ns"].as_u64().is_some();
            assert_eq!(is_known, row["host"] == "a", "{row}");
            assert!(row.get("preempted_ns").is_some(), "{row}");
        }
    }
    let csv = text_of(&run(
        &["exits", "--by", "host", "--sort", "name", "--csv"],
        &files,
    ));
    let cells = column(&csv, "preempted_ns");
    assert!(cells[0].parse::<u64>().is_ok_and(|ns| ns > 0), "{csv}");
    assert_eq!(cells[1], "");
    // It is as unknown in a report on this recording alone.
    let one = report(&without, &["exits", "--by", "vm,vcpu", "--json"]);
    assert_eq!(one["preempt_watched"], false);
    for rows in ["rows", "vcpus"] {
        assert_eq!(one[rows][0]["preempted_ns"], Value::Null);
    }
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_reported() {
    let folder = TemporaryFolder::new();
    let files = recordings();
    let copies = copy_to(&folder, &files);
    let damaged = copies[1].clone();
    let bytes = fs::read(&damaged).expect("a file");
    fs::write(&damaged, &bytes[..120]).expect("a file");
    let directory = damaged.parent().expect("a folder");
    let good = [copies[0].as_path(), &copies[2]];
    for args in [&["stat", "--json", "--per-vm"][..], &["exits", "--json"]] {
        let expected = json_of(args, &good);
        for inputs in [&[directory][..], &[good[0], &damaged, good[1]]] {
            let output = run(args, inputs);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(all, expected);
            let message = String::from_utf8_lossy(&output.stderr);
            let name = damaged.to_str().expect("UTF-8");
            assert_eq!(message.matches(name).count(), 1, "{message}");
            assert!(
                message.contains("the report is about the other recordings"),
                "{message}"
            );
        }
        let output = run(args, &[&damaged, &damaged]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_recording_without_exits_is_named_and_the_others_are_reported() {
    let [first, second, _] = recordings();
    let without = RecordingFile::without_exits(&facts("b", "6.1", DATE_NS), &contended_vms());
    let args = ["exits", "--by", "host,reason", "--json"];
    let expected = json_of(&args, &[first.path(), second.path()]);
    let output = run(&args, &[first.path(), without.path(), second.path()]);
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(all, expected);
    let message = String::from_utf8_lossy(&output.stderr);
    let name = without.path().to_str().expect("UTF-8");
    assert_eq!(message.matches(name).count(), 1, "{message}");
    assert!(message.contains("skipped: "), "{message}");
    assert_eq!(output.status.code(), Some(0));
    let output = run(&args, &[without.path(), without.path()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// A report that says that it is complete must say of what.
#[test]
fn what_a_recording_was_limited_to_is_in_its_reports() {
    let command = "kvm-collector record --vcpu 0 -e kvm_exit,kvm_entry -o k.data";
    let limited_facts = HostFacts {
        command: command.split(' ').map(str::to_owned).collect(),
        ..facts("a", "6.1", DATE_NS)
    };
    let limited = RecordingFile::of_host(&limited_facts, &exits(VM_A, 3, 1));
    let selection = json!({ "vcpu": ["0"], "event": ["kvm_exit", "kvm_entry"] });
    let text = "only for vCPU 0, event kvm_exit or kvm_entry";
    for command in ["stat", "exits", "list"] {
        let report = json_of(&[command, "--json"], &[limited.path()]);
        let origin = if command == "list" {
            &report["recording"]
        } else {
            &report
        };
        assert_eq!(origin["recording_selection"], selection, "{command}");
        let report = text_of(&run(&[command], &[limited.path()]));
        assert!(report.contains(text), "{report}");
    }
    let [whole, ..] = recordings();
    let files = [limited.path(), whole.path()];
    let report = json_of(&["exits", "--json"], &files);
    assert_eq!(report["inputs"][0]["recording_selection"], selection);
    assert_eq!(report["inputs"][1].get("recording_selection"), None);
    let report = text_of(&run(&["exits"], &files));
    assert!(
        report.contains("2 files (1 of them only for a selection)"),
        "{report}"
    );
}

#[test]
fn a_recording_that_does_not_exist_is_an_error_of_the_command_line() {
    let folder = TemporaryFolder::new();
    let (output_file, absent) = (folder.file("k.json"), folder.file("k.data"));
    fs::write(&output_file, "before").expect("a file");
    let [first, ..] = recordings();
    for command in ["exits", "stat"] {
        let name = output_file.to_str().expect("UTF-8");
        let output = run(&[command, "--json", "-o", name], &[first.path(), &absent]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(fs::read(&output_file).expect("a file"), b"before");
    }
}

/// A part of the time that is not known must not look like one that is 0.
#[test]
fn parts_of_the_time_that_were_not_recorded_are_named() {
    let events = [("kvm", "kvm_entry"), ("kvm", "kvm_exit")];
    let facts = facts("a", "6.1", DATE_NS);
    let without = RecordingFile::of_events(&facts, &events, &exits(VM_A, 3, 1));
    let [whole, ..] = recordings();
    let unmeasured = json!(["vmm_ns", "halted_ns"]);
    for files in [&[without.path()][..], &[whole.path(), without.path()]] {
        let report = json_of(&["exits", "--json"], files);
        assert_eq!(report["unmeasured"], unmeasured);
        let report = text_of(&run(&["exits"], files));
        let line = "time in the VMM and halted was not recorded and counts as kernel time";
        assert!(report.contains(line), "{report}");
    }
    let report = json_of(&["exits", "--json"], &[whole.path()]);
    assert_eq!(report.get("unmeasured"), None);
}
