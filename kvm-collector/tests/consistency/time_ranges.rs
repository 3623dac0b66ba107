//! `--from` and `--until`: time ranges of a recording.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    collector::{CPUID, HLT, contended_vms, report, reports, run},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit},
};

/// Returns a recording with exits across all boundaries, losses, damage and threads that end.
fn eventful_recording() -> RecordingFile {
    let mut items = contended_vms();
    let (long, short) = ((VM_A, VM_A + 2), (VM_B, VM_B + 3));
    for at in (5_000..1_000_000).step_by(7_000) {
        items.push(exit(at, short, 4, if at % 2 == 0 { CPUID } else { HLT }));
        items.push(event(at + 100, short, "kvm_userspace_exit", &[]));
        if at % 5 != 0 {
            items.push(entry(at + 1_500, short, 4));
        }
    }
    // Exits that span several intervals, one of which is halted for most of its time.
    items.extend([
        exit(50_000, long, 2, HLT),
        event(480_000, long, "kvm_vcpu_wakeup", &[("ns", 400_000)]),
        entry(490_000, long, 2),
        exit(600_000, long, 2, CPUID),
    ]);
    for (time_ns, count) in [(333_000, 5), (777_000, 11)] {
        items.push(RecordedItem::Lost {
            time_ns,
            name: Some("kvm_msr"),
            count,
        });
    }
    items.push(RecordedItem::Event {
        time_ns: 654_321,
        thread: long,
        name: "kvm_exit",
        fields: vec![("isa", 2)],
        max_bytes: Some(8),
    });
    items.push(RecordedItem::ThreadEnd {
        time_ns: 700_500,
        thread: short,
    });
    items.sort_by_key(|it| match it {
        RecordedItem::Event { time_ns, .. }
        | RecordedItem::Lost { time_ns, .. }
        | RecordedItem::ThreadEnd { time_ns, .. } => *time_ns,
    });
    RecordingFile::new(&items)
}

/// Returns the sums of all numbers of reports that add up, by name.
fn sums(reports: &[Value]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    let mut add = |name: String, value: &Value| {
        let number = value.as_u64().unwrap_or(0);
        if number > 0 {
            *sums.entry(name).or_default() += number;
        }
    };
    for report in reports {
        add("elapsed_ns".to_owned(), &report["elapsed_ns"]);
        for (name, value) in report["loss"].as_object().expect("losses") {
            add(format!("loss {name}"), value);
        }
        let vms = report["vms"].as_array().into_iter().flatten();
        let events = vms.flat_map(|vm| {
            let events = vm["events"].as_array().into_iter().flatten();
            events.map(|it| (vm["pid"].to_string(), it))
        });
        let total = report["events"].as_array().into_iter().flatten();
        for (vm, it) in total.map(|it| (String::new(), it)).chain(events) {
            add(format!("{vm} {}", it["event"]), &it["count"]);
        }
        for table in ["rows", "vcpus"] {
            for row in report[table].as_array().into_iter().flatten() {
                let key = [&row["pid"], &row["vcpu"], &row["reason"]].map(Value::to_string);
                for field in [
                    "count",
                    "untimed",
                    "total_ns",
                    "kernel_ns",
                    "vmm_ns",
                    "halted_ns",
                    "guest_ns",
                ] {
                    add(format!("{table} {key:?} {field}"), &row[field]);
                }
                for bucket in row["histogram"].as_array().into_iter().flatten() {
                    let name = format!("{key:?} histogram {}", bucket["from_ns"]);
                    add(name, &bucket["count"]);
                }
            }
        }
    }
    sums
}

/// Returns the start and the end of a report, in ns since the start of the recording.
fn bounds(report: &Value) -> (u64, u64) {
    let number = |name: &str| report[name].as_u64().expect("a number");
    (
        number("start_ns"),
        number("start_ns") + number("elapsed_ns"),
    )
}

#[test]
fn a_range_equals_the_intervals_in_it() {
    let file = eventful_recording();
    for command in [
        &["stat", "--json", "--per-vm"][..],
        &["exits", "--json", "--hist", "--by", "vm,vcpu,reason"],
        &["exits", "--json", "--by", "reason", "--vcpu", "0-2"],
    ] {
        let mut intervals = reports(&file, &[command, &["-I", "70us"]].concat());
        let total = intervals.pop().expect("a total");
        assert!(intervals.len() > 10);
        let last = intervals.len() - 1;
        for (from, until) in [
            (0, 0),
            (0, 4),
            (3, 3),
            (3, 9),
            (5, last),
            (last, last),
            (0, last),
        ] {
            let covered = &intervals[from..=until];
            let (start, end) = (bounds(&covered[0]).0, bounds(&intervals[until]).1);
            // The last interval includes the last event.
            let end = end + u64::from(until == last);
            let part = [
                "--from",
                &format!("{start}ns"),
                "--until",
                &format!("{end}ns"),
            ];
            let part = report(&file, &[command, &part].concat());
            assert_eq!(
                sums(std::slice::from_ref(&part)),
                sums(covered),
                "{command:?} {from} {until}"
            );
            assert_eq!(part["start"], covered[0]["start"], "{command:?}");
            assert_eq!(part["end"], intervals[until]["end"], "{command:?}");
            assert_eq!(part["start_ns"], 0);
        }
        // Parts have intervals of their own, which add up to the part.
        let args = [command, &["-I", "70us", "--from", "210us", "--to", "700us"]].concat();
        let mut parts = reports(&file, &args);
        let part_total = parts.pop().expect("a total");
        assert_eq!(sums(&parts), sums(&[part_total]), "{command:?}");
        assert_eq!(sums(&parts), sums(&intervals[3..10]), "{command:?}");
        assert_eq!(sums(&[total]), sums(&intervals), "{command:?}");
    }
}

#[test]
fn all_ways_to_write_a_time_select_the_same_range() {
    let file = eventful_recording();
    let exits = |from: &str, to: &str| {
        let mut report = report(&file, &["exits", "--json", "--from", from, "--to", to]);
        report["selection"] = Value::Null;
        report
    };
    let selection = &report(&file, &["stat", "--json", "--from", "1us"])["selection"];
    assert_eq!(*selection, serde_json::json!({"from": "1us"}));
    // The first event is at 1 us, and the clock is at 0 when it is 1970.
    let part = exits("209us", "419us");
    assert!(part["rows"].as_array().is_some_and(|it| !it.is_empty()));
    assert_eq!(part, exits("+0.000209s", "0.000419s"));
    assert_eq!(part, exits("@0.000210", "@0.00042"));
    assert_eq!(
        part,
        exits(
            "1970-01-01T00:00:00.00021Z",
            "1970-01-01T02:00:00.00042+02:00"
        )
    );
    // -d is the length of the part.
    let duration = ["exits", "--json", "--from", "209us", "-d", "210us"];
    assert_eq!(report(&file, &duration)["rows"], part["rows"]);
}

#[test]
fn traces_of_ranges_add_up_to_the_whole_trace() {
    let file = eventful_recording();
    let text = |args: &[&str]| {
        let output = run(&file, args);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for command in [
        &["trace"][..],
        &["trace", "--per-exit"],
        &["trace", "--min-duration", "1500ns", "--json"],
        &["convert", "--to", "text", "-o", "-", "--rows", "events"],
        &["convert", "--to", "csv", "-o", "-", "--rows", "exits"],
    ] {
        let whole = text(command);
        let ends_ns = ["0ns", "209us", "210us", "500us", "649us", "2ms"];
        let mut parts = Vec::new();
        for bounds in ends_ns.windows(2) {
            let part = text(&[command, &["--from", bounds[0], "--until", bounds[1]]].concat());
            parts.extend(part);
        }
        // Sums of losses are those of each part, and each table has a heading. Exits in progress at the end are only in
        // the last part.
        let is_line = |it: &&String| {
            !["# total", "in_progress", "time_ns,time,host"]
                .iter()
                .any(|part| it.contains(part))
        };
        let sorted = |lines: &[String]| {
            let mut lines: Vec<_> = lines.iter().filter(is_line).cloned().collect();
            lines.sort_unstable();
            lines
        };
        let (parts, whole) = (sorted(&parts), sorted(&whole));
        assert!(whole.len() > 5, "{command:?}");
        assert_eq!(parts, whole, "{command:?}");
        let is_in_progress = |it: &String| it.ends_with(",true,false");
        if command.contains(&"csv") {
            assert!(whole.iter().any(is_in_progress), "{whole:?}");
        }
    }
}

#[test]
fn extremes_and_causes_are_those_of_the_range() {
    let thread = (VM_A, VM_A + 1);
    let mut items = Vec::new();
    for (at, time_ns, port) in [
        (0, 9_000, 1),
        (20_000, 500, 2),
        (40_000, 800, 2),
        (60_000, 9, 3),
    ] {
        let at = 1_000 + at;
        items.extend([
            exit(at, thread, 0, CPUID),
            event(at + 1, thread, "kvm_pio", &[("port", port), ("size", 1)]),
            entry(at + time_ns, thread, 0),
        ]);
    }
    let file = RecordingFile::new(&items);
    for intervals in [&[][..], &["-I", "15us"]] {
        let args = [
            "exits", "--json", "--causes", "9", "--from", "15us", "--until", "55us",
        ];
        let total = reports(&file, &[&args[..], intervals].concat()).pop();
        let row = total.expect("a total")["rows"][0].clone();
        assert_eq!((&row["min_ns"], &row["max_ns"]), (&500.into(), &800.into()));
        let causes = row["causes"].as_array().expect("causes");
        assert_eq!(causes.len(), 1, "{causes:?}");
        assert_eq!(causes[0]["at_least"], 2, "{causes:?}");
    }
}

#[test]
fn a_range_outside_of_the_recording_is_an_error_that_says_what_it_covers() {
    let file = eventful_recording();
    let folder_file = std::env::temp_dir().join(format!("kvm-part-{}.html", std::process::id()));
    let html = folder_file.to_str().expect("UTF-8");
    for (args, parts) in [
        (
            &["--from", "2s"][..],
            &["--from 2s is outside", "0s to 0.001041000s", "@0.000001000"][..],
        ),
        (
            &["--until", "@0"],
            &["--until @0", "1970-01-01T00:00:00.000001000Z"],
        ),
        (&["--from", "1ms", "--until", "@0.0005"], &["is outside"]),
        (
            &["--from", "2ms", "--until", "1ms"],
            &["--until must be later than --from"],
        ),
        (&["--from", "1.5"], &["1.5s", "@1.5"]),
        (&["--from", "yesterday"], &["13:17:09", "@SECONDS"]),
    ] {
        for command in [
            &["stat"][..],
            &["exits", "-I", "1us"],
            &["trace", "--per-exit"],
            &["convert", "--to", "html", "-o", html],
        ] {
            let output = run(&file, &[command, args].concat());
            assert_eq!(
                output.status.code(),
                Some(2),
                "{command:?} {args:?}: {output:?}"
            );
            assert_eq!(output.stdout, b"", "{command:?} {args:?}");
            let message = String::from_utf8_lossy(&output.stderr);
            for part in parts {
                assert!(message.contains(part), "{command:?} {args:?}: {message}");
            }
            assert!(!folder_file.exists());
        }
    }
    // Clear `use_clockid`: then the clock is perf's, whose date is unknown.
    file.change_attrs(|attr| attr[43] &= !2);
    let output = run(&file, &["exits", "--from", "13:17:09"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains("does not contain the wall-clock time"),
        "{message}"
    );
    // The running kernel has no parts.
    let binary = env!("CARGO_BIN_EXE_kvm-collector");
    let output = std::process::Command::new(binary)
        .args(["stat", "--from", "1s"])
        .output()
        .expect("cannot run kvm-collector");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn list_has_the_vms_with_events_in_the_range() {
    let file = RecordingFile::new(&[
        exit(1_000, (VM_A, VM_A + 1), 0, CPUID),
        entry(2_000, (VM_A, VM_A + 1), 0),
        exit(50_000, (VM_B, VM_B + 1), 0, CPUID),
        entry(51_000, (VM_B, VM_B + 1), 0),
    ]);
    for (args, expected) in [
        (&[][..], &[VM_A, VM_B][..]),
        (&["--from", "10us"], &[VM_B]),
        (&["--to", "10us"], &[VM_A]),
        (&["--from", "10us", "--until", "20us"], &[]),
    ] {
        let listing = report(&file, &[&["list", "vms", "--json"], args].concat());
        let vms = listing["vms"].as_array().expect("VMs");
        let pids: Vec<_> = vms.iter().map(|it| it["pid"].as_u64().unwrap()).collect();
        let expected: Vec<_> = expected.iter().map(|it| u64::from(*it)).collect();
        assert_eq!(pids, expected, "{args:?}");
    }
}

#[test]
fn the_page_of_a_range_has_the_exits_of_the_range() {
    let file = eventful_recording();
    let page = std::env::temp_dir().join(format!("kvm-range-{}.html", std::process::id()));
    let path = page.to_str().expect("UTF-8");
    for (from, until) in [
        ("@0.0002", "@0.0007"),
        ("@0", "@0.00049"),
        ("@0.0003", "@9"),
    ] {
        let range = ["--from", from, "--until", until];
        let convert = ["convert", "--to", "html", "-o", path];
        let output = run(&file, &[&convert[..], &range].concat());
        assert!(output.status.success(), "{output:?}");
        let html = std::fs::read_to_string(&page).expect("a page");
        std::fs::remove_file(&page).expect("cannot remove");
        let (_, json) = html
            .split_once("<script type=\"application/json\" id=\"data\">")
            .expect("data");
        let (json, _) = json.split_once("</script>").expect("the end of the data");
        let timeline: Value = serde_json::from_str(json).expect("JSON");
        let exits = report(&file, &[&["exits", "--json"][..], &range].concat());
        let tracks = timeline["tracks"].as_array().expect("tracks");
        let bins = tracks.iter().flat_map(|it| it["exits"].as_array().unwrap());
        let timeline_exits: u64 = bins.map(|it| it.as_u64().unwrap()).sum();
        assert_eq!(exits["count"], timeline_exits, "{from} {until}");
        assert!(timeline_exits > 10);
        let events = &report(&file, &[&["stat", "--json"][..], &range].concat())["events"];
        let events = events.as_array().expect("events").iter();
        let counts: u64 = events.map(|it| it["count"].as_u64().unwrap()).sum();
        let bins = timeline["events"].as_array().expect("events").iter();
        assert_eq!(bins.map(|it| it.as_u64().unwrap()).sum::<u64>(), counts);
    }
}
