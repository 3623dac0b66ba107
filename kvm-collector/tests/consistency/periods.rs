//! The period of a report on a recording is that of the recording, whatever is selected.

use std::fs;

use serde_json::Value;

use crate::{
    collector::{CPUID, contended_vms, report, reports, run},
    recording_file::{OTHER_PROCESS, RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit},
    several::{DATE_NS, facts},
    temporary_folder::TemporaryFolder,
};

const NS_PER_US: u64 = 1_000;

/// Returns a recording of 100 us. One VM has events from 40 us to 60 us only.
fn recording() -> RecordingFile {
    let (vcpu_a, vcpu_b) = ((VM_A, VM_A + 1), (VM_B, VM_B + 1));
    let mut items = vec![event(0, vcpu_a, "kvm_msr", &[])];
    for at_us in [10, 40, 60, 90] {
        let at = at_us * NS_PER_US;
        items.extend([exit(at, vcpu_a, 0, CPUID), entry(at + 500, vcpu_a, 0)]);
        if (40..=60).contains(&at_us) {
            items.extend([exit(at, vcpu_b, 0, CPUID), entry(at + 600, vcpu_b, 0)]);
        }
    }
    items.push(event(100 * NS_PER_US, vcpu_a, "kvm_msr", &[]));
    RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), &items)
}

fn period(report: &Value) -> [&Value; 4] {
    ["start", "end", "start_ns", "elapsed_ns"].map(|name| &report[name])
}

#[test]
fn a_selection_does_not_change_the_period() {
    let file = recording();
    let expected: [Value; 4] = [
        "2026-11-25T13:17:08.000000000Z".into(),
        "2026-11-25T13:17:08.000100000Z".into(),
        0.into(),
        (100 * NS_PER_US).into(),
    ];
    let (vm_b, other) = (VM_B.to_string(), (VM_B + 1).to_string());
    for args in [
        &["stat"][..],
        &["stat", "-e", "kvm_exit"],
        &["stat", "-e", "kvm_pio"],
        &["stat", "-p", &vm_b],
        &["stat", "--vcpu", "7"],
        &["exits"],
        &["exits", "-p", &vm_b],
        &["exits", "--tid", &other],
        &["exits", "--vcpu", "7"],
        &["exits", "--reason", "hlt"],
    ] {
        let report = report(&file, &[args, &["--json"]].concat());
        assert_eq!(period(&report), expected.each_ref(), "{args:?}");
        let text = String::from_utf8(run(&file, args).stdout).expect("UTF-8");
        assert!(text.contains(" (100.0 us)"), "{args:?}: {text}");
    }
    // The page has the same period.
    let folder = TemporaryFolder::new();
    let page = folder.file("page.html");
    let path = page.to_str().expect("UTF-8");
    let convert = ["convert", "--to", "html", "-o", path, "-p", &vm_b];
    let output = run(&file, &convert);
    assert!(output.status.success(), "{output:?}");
    let html = fs::read_to_string(&page).expect("a page");
    let facts: Vec<_> = html.lines().filter(|it| it.contains("<dt>")).collect();
    for bound in ["2026-11-25T13:17:08.000000Z", "2026-11-25T13:17:08.000100Z"] {
        assert!(facts[0].contains(bound), "{facts:?}");
    }
    assert!(facts[1].contains("<dd>100.0 us</dd>"), "{facts:?}");
    let (_, json) = html.split_once("id=\"data\">").expect("data");
    assert!(json.contains("\"elapsed_ns\":100000,"));
    // The losses of a conversion too.
    let (lines, losses) = (folder.file("events.csv"), folder.file("loss.json"));
    let [lines, losses] = [&lines, &losses].map(|it| it.to_str().expect("UTF-8"));
    let convert = ["convert", "--to", "csv", "-o", lines, "--loss", losses];
    let output = run(&file, &[&convert[..], &["-p", &vm_b]].concat());
    assert!(output.status.success(), "{output:?}");
    let loss = fs::read_to_string(losses).expect("a file");
    let loss: Value = serde_json::from_str(&loss).expect("JSON");
    assert_eq!(period(&loss)[..2], [&expected[0], &expected[1]]);
}

#[test]
fn intervals_and_ranges_start_with_the_recording() {
    let file = recording();
    let vm_b = VM_B.to_string();
    for command in ["stat", "exits"] {
        let args = [command, "--json", "-I", "20us"];
        let grid = |args: &[&str]| -> Vec<(u64, u64)> {
            let reports = reports(&file, args);
            let intervals = reports.iter().filter(|it| it["period"] == "interval");
            let number = |it: &Value, name: &str| it[name].as_u64().expect("a number");
            intervals
                .map(|it| {
                    let start_ns = number(it, "start_ns");
                    (start_ns, start_ns + number(it, "elapsed_ns"))
                })
                .collect()
        };
        let us = |it: (u64, u64)| (it.0 * NS_PER_US, it.1 * NS_PER_US);
        let selected = grid(&[&args[..], &["-p", &vm_b]].concat());
        // Consecutive intervals without events are reported as one.
        let expected = [(0, 20), (20, 40), (40, 60), (60, 80), (80, 100)].map(us);
        assert_eq!(selected, expected, "{command}");
        let none = grid(&[&args[..], &["--vcpu", "7"]].concat());
        assert_eq!(none, [(0, 20), (20, 100)].map(us), "{command}");
        // The range is since the start of the recording, not since the first event of the VM.
        for range in [["--from", "30us"], ["--from", "@0.00003"]] {
            let args = [command, "--json", "-d", "15us", "-p", &vm_b];
            let report = report(&file, &[&args[..], &range].concat());
            assert_eq!(report["start"], "2026-11-25T13:17:08.000030000Z");
            assert_eq!(report["elapsed_ns"], 15 * NS_PER_US);
            let count = match command {
                "stat" => &report["events"][1]["count"],
                _ => &report["count"],
            };
            assert_eq!(*count, 1, "{command}: {report}");
        }
    }
    // A range without selected events is not outside of the recording.
    let args = ["exits", "--json", "-p", &vm_b, "--from", "80us"];
    let report = report(&file, &args);
    assert_eq!(
        (&report["count"], &report["elapsed_ns"]),
        (&0.into(), &(20 * NS_PER_US).into())
    );
}

#[test]
fn a_listing_says_which_recording_it_is_about() {
    let file = recording();
    for (args, what) in [
        (&["list"][..], "events and VMs"),
        (&["list", "vms"], "VMs"),
        (&["list", "events"], "events"),
        (&["list", "reasons"], "exit reasons"),
    ] {
        let text = String::from_utf8(run(&file, args).stdout).expect("UTF-8");
        let mut lines = text.lines().skip(1);
        let heading = lines.next().expect("a heading");
        let expected = format!("  {what} of amd, Linux 6.1, recorded in /");
        assert!(heading.starts_with(&expected), "{heading}");
        let period = lines.next().expect("a period");
        assert!(period.starts_with("  2026-11-2"), "{period}");
        assert!(period.ends_with(" (100.0 us)"), "{period}");
        let listing = report(&file, &[args, &["--json"]].concat());
        let recording = &listing["recording"];
        assert_eq!(recording["host"], "amd");
        assert_eq!(recording["end"], "2026-11-25T13:17:08.000100000Z");
        assert_eq!(recording["elapsed_ns"], 100 * NS_PER_US);
    }
    let empty = RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), &[]);
    for args in [&["list"][..], &["list", "events"]] {
        let text = String::from_utf8(run(&empty, args).stdout).expect("UTF-8");
        assert!(text.contains("no events; period unknown"), "{text}");
        let listing = report(&empty, &[args, &["--json"]].concat());
        assert_eq!(listing["recording"]["start"], Value::Null);
    }
    // The period of an unfinished recording is only known if its events are read.
    let unfinished = RecordingFile::unfinished(&contended_vms());
    let text = String::from_utf8(run(&unfinished, &["list", "kinds"]).stdout).expect("UTF-8");
    assert!(
        !text.contains("unknown") && !text.contains(" us)"),
        "{text}"
    );
}

#[test]
fn processes_without_vcpus_are_no_vms() {
    let (vcpu, kernel_thread) = ((VM_A, VM_A + 1), (OTHER_PROCESS, OTHER_PROCESS));
    let file = RecordingFile::new(&[
        event(1_000, kernel_thread, "kvm_msr", &[]),
        exit(2_000, vcpu, 0, CPUID),
        event(2_500, vcpu, "kvm_msr", &[]),
        entry(3_000, vcpu, 0),
        event(4_000, kernel_thread, "kvm_msr", &[]),
    ]);
    let pids = |report: &Value| -> Vec<u64> {
        let vms = report["vms"].as_array().expect("VMs");
        vms.iter().map(|it| it["pid"].as_u64().unwrap()).collect()
    };
    for args in [
        &["list", "vms"][..],
        &["list", "vms", "-e", "kvm_msr"],
        &["stat", "--per-vm"],
        &["stat", "--per-vm", "-e", "kvm_msr"],
    ] {
        let report = report(&file, &[args, &["--json"]].concat());
        assert_eq!(pids(&report), [u64::from(VM_A)], "{args:?}");
    }
    // The totals have all events.
    let report = report(&file, &["stat", "--per-vm", "--json", "-e", "kvm_msr"]);
    assert_eq!(report["events"][0]["count"], 3);
    assert_eq!(report["vms"][0]["events"][0]["count"], 1);
}

#[test]
fn a_recording_without_events_has_no_period() {
    let file = RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), &[]);
    let loss = RecordedItem::Lost {
        time_ns: 5,
        name: None,
        count: 3,
    };
    let only_loss = RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), &[loss]);
    let folder = TemporaryFolder::new();
    let page = folder.file("page.html");
    let path = page.to_str().expect("UTF-8");
    for file in [&file, &only_loss] {
        for command in ["stat", "exits"] {
            for interval in [&[][..], &["-I", "1s"]] {
                let args = [&[command, "--json"][..], interval].concat();
                let report = report(file, &args);
                let nulls = [&Value::Null, &Value::Null, &0.into(), &0.into()];
                assert_eq!(period(&report), nulls, "{args:?}");
            }
            let text = String::from_utf8(run(file, &[command]).stdout).expect("UTF-8");
            assert!(text.contains("no events; period unknown"), "{text}");
            let csv = run(file, &[command, "--csv"]);
            assert!(csv.status.success(), "{csv:?}");
        }
        let output = run(file, &["convert", "--to", "html", "-o", path]);
        assert!(output.status.success(), "{output:?}");
        let html = fs::read_to_string(&page).expect("a page");
        let duration = "<dt>duration</dt><dd>unknown: the recording has no events</dd>";
        assert!(html.contains(duration));
        assert!(!html.contains("id=\"period\""));
    }
    // Together with another recording, only that one counts.
    let other = RecordingFile::of_host(&facts("amd", "6.1", DATE_NS), &contended_vms());
    let path = other.path().to_str().expect("UTF-8");
    let alone = report(&other, &["stat", "--json"]);
    let both = report(&file, &["stat", "--json", "-i", path]);
    assert_eq!(period(&both), period(&alone));
    let text = String::from_utf8(run(&file, &["stat", "-i", path]).stdout).expect("UTF-8");
    assert!(!text.contains("1970"), "{text}");
}
