//! Messages about wrong command lines and empty results name the next step, and the exit code tells errors of the command line
//! (2) from other failures (1).

mod baseline;
mod empty_results;
mod exit_codes;
mod exits;
mod limits_and_outputs;
mod no_effect;
mod one_recording;
mod other_commands;
mod output_suffix;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
#[path = "../common/real_recordings.rs"]
mod real_recordings;
mod recorded_vms;
mod repeated_values;
mod sample;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;
mod typos;

use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    sample::{TGID, write_recording},
    temporary_folder::TemporaryFolder,
};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .output()
        .expect("the collector runs")
}

/// Runs the collector. Checks the exit code, and that stderr contains all of `texts`.
fn check(args: &[&str], code: i32, texts: &[&str]) {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{args:?}: no `{text}` in: {stderr}");
    }
    assert!(stderr.len() < 600, "{args:?}: too long: {stderr}");
}

#[test]
fn an_argument_without_its_option_gets_a_tip() {
    check(&["stat", "sleep", "1"], 2, &["`-- sleep ...`"]);
    check(&["exits", "k.data"], 2, &["`-i k.data`"]);
    check(&["trace", "./k.data"], 2, &["`-i ./k.data`"]);
    check(&["-q", "convert", "k.data"], 2, &["`-i k.data`"]);
    check(&["record", "x.data"], 2, &["`-o x.data`"]);
}

#[test]
fn invalid_selectors_say_what_is_expected() {
    check(&["exits", "--vcpu", "foo"], 2, &["foo", "0-3,8"]);
    check(&["exits", "--vcpu", "3-0"], 2, &["smaller"]);
    check(&["exits", "-p", "web-1"], 2, &["number", "--vm"]);
    check(&["trace", "--tid", "x"], 2, &["number", "list"]);
}

#[test]
fn invalid_values_say_what_is_expected() {
    let commands: [(&[&str], &str); 26] = [
        (&["exits", "-d", "584y"], "at most 876000h"),
        (&["stat", "-d", "99999999999999h"], "at most 876000h"),
        (&["exits", "--slow", "99999999999999h"], "at most 876000h"),
        (&["trace", "--min-duration", "584y"], "at most 876000h"),
        (&["record", "--flight-recorder", "584y"], "at most 876000h"),
        (&["top", "--duration", "584y"], "at most 876000h"),
        (&["stat", "-I", "584y"], "at most 876000h"),
        (&["stat", "-I", "1ns"], "1us or more"),
        (&["exits", "-I", "0s"], "1us or more"),
        (
            &["exits", "-I", "2us"],
            "must be 1ms or more, except with -i",
        ),
        (&["record", "--buffer", "17179869183G"], "from 2M to"),
        (
            &["exits", "-i", "x", "--from", "@99999999999"],
            "at most 9223372036 s",
        ),
        (&["exits", "--top", "0"], "give a whole number, 1 or more"),
        (&["exits", "-d", "5x"], "such as 500ms, 10s or 1h"),
        (&["stat", "-I", "soon"], "such as 500ms, 10s or 1h"),
        (&["exits", "--top", "few"], "a whole number, 1 or more"),
        (&["exits", "--causes", "x"], "a whole number, 1 or more"),
        (&["exits", "--max-rows", "0"], "from 1 to 1000000"),
        (&["record", "--rotate", "x"], "from 1 to 1000"),
        (&["record", "-z=99"], "from 1 to 22"),
        (&["record", "--max-size", "big"], "from 4M to"),
        (&["exits", "--percentiles", "x"], "such as 95, p95"),
        (&["exits", "--sort", "x"], "give count, time"),
        (&["guest", "--sleep", "x"], "such as 500ms"),
        (&["guest", "--exits", "x"], "a whole number"),
        (&["exits", "--sort", "x"], "a percentile such as p99"),
    ];
    for (args, expected) in commands {
        check(args, 2, &[expected]);
        let stderr = run(args).stderr;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!stderr.contains("invalid digit"), "{args:?}: {stderr}");
    }
}

#[test]
fn values_beyond_a_limit_are_errors_that_say_it() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let (stars, braces) = ("*".repeat(100_000), "{".repeat(100_000));
    let chain = vec!["vcpu_id >= 0"; 5000].join(" && ");
    let not = format!("{}vcpu_id", "!".repeat(100_000));
    for glob in [&stars, &braces] {
        let long = &["more than 1000 bytes"];
        check(&["stat", "-i", file, "-e", glob], 2, long);
        check(&["exits", "-i", file, "--vm", glob], 2, long);
        check(&["stat", "-i", glob], 2, long);
        check(
            &["exits", "-i", file, "--reason", glob],
            2,
            &["no exit reason"],
        );
    }
    let deep = "{".repeat(500);
    check(&["stat", "-i", file, "--vm", &deep], 2, &["16 levels"]);
    check(&["trace", "-i", file, "--filter", &not], 2, &["64 levels"]);
    check(&["trace", "-i", file, "--filter", &chain], 0, &[]);
}

#[test]
fn rows_are_sorted_by_a_requested_percentile() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    fn exits<'a>(file: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        [&["exits", "-i", file], args].concat()
    }
    check(&exits(file, &["--sort", "p95"]), 2, &["--percentiles 95"]);
    let hidden = exits(file, &["--sort", "p99", "--percentiles", "50,95"]);
    check(&hidden, 2, &["--percentiles 50,95,99"]);
    let shown = exits(
        file,
        &["--sort", "p95", "--percentiles", "50,p95", "--json"],
    );
    let output = run(&shown);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["rows"][0]["percentiles"][1]["percent"], 95.0);
    check(&exits(file, &["--sort", "p99"]), 0, &[]);
}

#[test]
fn a_recording_as_baseline_is_named_as_one() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let args = ["exits", "-i", file, "--baseline", file];
    check(&args, 2, &["is a recording", "exits -i", "--json"]);
}

#[test]
fn options_that_do_not_fit_together_are_usage_errors() {
    check(&["record", "--rotate", "3"], 2, &["--max-size"]);
    check(&["exits", "--slow", "1ms", "--csv"], 2, &["--json"]);
    check(&["top", "--sort", "preempted"], 2, &["--preempt"]);
    check(&["top", "--speed", "2"], 2, &["--input"]);
    check(&["top", "-i", "x", "--speed", "0"], 2, &["greater than 0"]);
    check(
        &["top", "-i", "x", "--max-rows", "5"],
        2,
        &["--max-rows", "--input"],
    );
    let args = ["exits", "--kind", "pio", "--reason", "io"];
    check(&args, 2, &["--reason", "--kind pio"]);
    for option in ["--causes", "--advice", "--hist"] {
        check(&["exits", option, "--csv"], 2, &[option, "--json"]);
    }
    let commands: [(&[&str], &str); 21] = [
        (&["exits", "--causes", "0"], "1 or more"),
        (&["exits", "--top", "0"], "1 or more"),
        (&["exits", "--causes", "--kind", "pio"], "--cause rip"),
        (&["exits", "--causes=3", "--kind", "MSR"], "--cause rip"),
        (&["list", "kinds", "-i", "x", "--from", "1s"], "list vms"),
        (&["list", "reasons", "-i", "x", "--until", "1s"], "list vms"),
        (&["list", "events", "-i", "x", "--from", "1s"], "list vms"),
        (&["top", "--kind", "nothing"], "unknown kind"),
        (&["exits", "--cause", "rip"], "--causes"),
        (&["exits", "--causes", "3", "--cause", "vmexit"], "rip"),
        (
            &["exits", "--advice", "--cause", "pio", "--kind", "pio"],
            "its own cause",
        ),
        (&["exits", "--advice", "--by", "vm"], "--by vm,reason"),
        (&["exits", "-i", "x", "--max-rows", "9"], "--max-rows"),
        (&["exits", "-i", "x", "--vm", "a", "--no-wait"], "--no-wait"),
        (&["stat", "-i", "x", "--", "true"], "CMD"),
        (&["stat", "-i", "x", "--self"], "--self"),
        (&["stat", "--zeros", "--json"], "--zeros"),
        (&["trace", "--fields", "--json"], "--fields"),
        (&["trace", "--time", "wall", "--json"], "time_ns"),
        (&["record", "--memory", "64M"], "--flight-recorder"),
        (&["list", "reasons", "-e", "kvm_exit"], "list events"),
    ];
    for (args, expected) in commands {
        check(args, 2, &[expected]);
    }
}

#[test]
fn unknown_names_get_suggestions() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let on_recording = |args: &[&str], texts: &[&str]| {
        check(&[&args[..1], &["-i", file], &args[1..]].concat(), 2, texts);
    };
    on_recording(
        &["stat", "-e", "kvm_exti"],
        &["did you mean kvm:kvm_exit", "list events -i"],
    );
    on_recording(&["trace", "-e", "kvm_nothing_like_it"], &["list events -i"]);
    on_recording(
        &["exits", "--reason", "hltt"],
        &["did you mean", "hlt", "list reasons"],
    );
    on_recording(&["exits", "--reason", "frobnicate"], &["list reasons"]);
}

#[test]
fn values_that_do_not_fit_the_recording_are_usage_errors() {
    let folder = TemporaryFolder::new();
    let (file, before) = (folder.file("kvm.data"), folder.file("before.json"));
    write_recording(&file);
    let (file, before) = (
        file.to_str().expect("UTF-8"),
        before.to_str().expect("UTF-8"),
    );
    check(&["exits", "-i", file, "--json", "-o", before], 0, &[]);
    let commands: [(&[&str], &str); 13] = [
        (&["trace", "--filter", "vcpu_id =="], "expected"),
        (
            &["trace", "--filter", "nothing == 1"],
            "no selected event has the field",
        ),
        (&["trace", "--filter", "vcpu_id ~ 1"], "filter"),
        (
            &["exits", "--kind", "kvm_exit.nothing"],
            "no usable field `nothing`",
        ),
        (
            &["exits", "--kind", "kvm_nothing.field"],
            "needs the event kvm:kvm_nothing",
        ),
        (
            &["top", "--once", "--kind", "kvm_exit.nothing"],
            "no usable field `nothing`",
        ),
        (
            &["exits", "--preempt"],
            "needs the event sched:sched_switch",
        ),
        (&["exits", "--baseline", before, "--by", "vm"], "grouped by"),
        (
            &[
                "exits",
                "--baseline",
                before,
                "--kind",
                "kvm_exit.exit_reason",
            ],
            "--kind",
        ),
        (&["exits", "--by", "nothing"], "--by"),
        (&["exits", "--columns", "nothing"], "columns"),
        (&["exits", "-o", file], "is the recording itself"),
        (&["top", "--once", "--sort", "nothing"], "--sort"),
    ];
    for (args, expected) in commands {
        check(
            &[&args[..1], &["-i", file], &args[1..]].concat(),
            2,
            &[expected],
        );
    }
}

#[test]
fn an_absent_vm_or_process_is_an_error_without_a_report() {
    let folder = TemporaryFolder::new();
    let (file, out) = (folder.file("kvm.data"), folder.file("out"));
    write_recording(&file);
    fs::write(&out, "old").expect("a file");
    let (file, out_arg) = (file.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    for selector in [["--vm", "nosuch"], ["-p", "17"]] {
        let commands: [&[&str]; 5] = [
            &["stat"],
            &["exits"],
            &["convert", "--to", "html"],
            &["convert", "--to", "parquet"],
            &["convert", "--to", "csv"],
        ];
        for command in commands {
            let args = [command, &["-i", file, "-o", out_arg], &selector].concat();
            check(&args, 2, &[selector[1], "it has events of"]);
            assert_eq!(fs::read_to_string(&out).expect("a file"), "old", "{args:?}");
            if command[0] != "convert" {
                let output = run(&[command, &["-i", file], &selector].concat());
                assert!(output.stdout.is_empty(), "{command:?}");
            }
        }
    }
    let names = fs::read_dir(out.parent().expect("a folder")).expect("a folder");
    assert_eq!(names.count(), 2, "no other files are left");
}

#[test]
fn list_shows_what_a_recording_has() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let list = |args: &[&str]| {
        let output = run(&[&["list", "--json", "-i", file], args].concat());
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let all = list(&[]);
    assert_eq!(all["events"][0]["event"], "kvm:kvm_entry");
    assert_eq!(all["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["vms"][0]["pid"], TGID);
    assert_eq!(all["vms"][0]["count"], 40);
    assert_eq!(all["vms"][0]["vcpus"][0]["vcpu"], 0);
    assert_eq!(all["vms"][0]["vcpus"][0]["tid"], TGID);
    let exits = list(&["vms", "-e", "kvm_exit"]);
    assert_eq!(exits["vms"][0]["count"], 20);
    let text = run(&["list", "vms", "-i", file]).stdout;
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.contains(": 40 events\n    vCPU 0  tid "), "{text}");
    let part = list(&["vms", "--from", "0s", "--until", "10us"]);
    assert_eq!(part["vms"][0]["count"], 10);
    assert_eq!(list(&["vms", "-e", "kvm_exit"])["vms"][0]["pid"], TGID);
    let reasons = list(&["reasons"]);
    let reasons = reasons["reasons"].as_array().expect("reasons");
    let hlt = |isa: &str, name: &str, code: u64| {
        let found = reasons
            .iter()
            .find(|it| it["isa"] == isa && it["reason"] == name);
        assert_eq!(found.expect("a reason")["reason_code"], code);
    };
    hlt("svm", "hlt", 0x78);
    hlt("vmx", "HLT", 12);
    // It has no events of other kinds.
    let kinds = list(&["kinds"]);
    assert_eq!(kinds["kinds"].as_array().map(Vec::len), Some(1), "{kinds}");
    assert_eq!(kinds["kinds"][0]["kind"], "vmexit");
    let bytes = fs::read(file).expect("a file");
    fs::write(file, &bytes[..bytes.len() - 64]).expect("a file");
    check(&["list", "vms", "-i", file], 0, &["is incomplete"]);
}
