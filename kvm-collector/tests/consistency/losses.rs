//! Lost, damaged and sampled events.

use serde_json::Value;

use crate::{
    collector::{CPUID, report, reports, run},
    recording_file::{RecordedItem, RecordingFile, VM_A, entry, exit},
};

/// Returns a recording with each kind of loss that files have, with the name and the count of the loss.
fn recordings_with_losses() -> Vec<(&'static str, u64, RecordingFile)> {
    let thread = (VM_A, VM_A + 1);
    let exit_and_entry = |at: u64| [exit(at, thread, 0, CPUID), entry(at + 500, thread, 0)];
    let mut all = Vec::new();
    let lost = |time_ns, name, count| RecordedItem::Lost {
        time_ns,
        name,
        count,
    };
    let between_exits = |items: Vec<RecordedItem>| {
        [&exit_and_entry(1_000)[..], &items, &exit_and_entry(9_000)].concat()
    };
    all.push((
        "lost",
        40,
        RecordingFile::new(&between_exits(vec![lost(5_000, None, 40)])),
    ));
    let lost_exits = between_exits(vec![lost(5_000, Some("kvm_exit"), 7)]);
    all.push(("lost", 7, RecordingFile::new(&lost_exits)));
    let untimed = RecordingFile::new(&between_exits(vec![lost(5_000, None, 3)]));
    // Clear `sample_id_all`: then records other than samples have no time.
    untimed.change_attrs(|attr| attr[42] &= !4);
    all.push(("lost", 3, untimed));
    let truncated_exit = |time_ns| RecordedItem::Event {
        time_ns,
        thread,
        name: "kvm_exit",
        fields: vec![("isa", 2)],
        max_bytes: Some(8),
    };
    let damaged = between_exits(vec![truncated_exit(4_000), truncated_exit(5_000)]);
    all.push(("damaged", 2, RecordingFile::new(&damaged)));
    let sampled = RecordingFile::new(&between_exits(vec![]));
    sampled.change_attrs(|attr| attr[16..24].copy_from_slice(&300u64.to_ne_bytes()));
    all.push(("sampled", 4 * 300, sampled));
    all
}

#[test]
fn every_loss_is_in_every_report_and_in_the_exit_code() {
    for (name, count, file) in recordings_with_losses() {
        for args in [&["stat", "--json"][..], &["exits", "--json"]] {
            let report = report(&file, args);
            assert_eq!(report["loss"][name], count, "{args:?} {name}");
            // Intervals add up to the total.
            let args = [args, &["-I", "2us"]].concat();
            let mut all = reports(&file, &args);
            let total = all.pop().expect("a total");
            let sum: u64 = all.iter().filter_map(|it| it["loss"][name].as_u64()).sum();
            assert_eq!(total["loss"][name], count, "{args:?} {name}");
            assert_eq!(sum, count, "{args:?} {name}");
        }
        let out =
            std::env::temp_dir().join(format!("kvm-collector-consistency-{}", std::process::id()));
        let out = out.to_str().expect("a name");
        let mut commands = vec![
            vec!["stat", "--strict"],
            vec!["exits", "--strict"],
            vec!["trace", "--strict"],
            vec!["trace", "--per-exit", "--strict"],
        ];
        for to in ["csv", "json", "perfetto", "html"] {
            let convert = vec!["convert", "--to", to, "-o", out, "--strict"];
            commands.push(match (name, to) {
                // A sample of the events has no exits.
                ("sampled", "csv" | "json" | "perfetto") => continue,
                _ => convert,
            });
        }
        for args in commands {
            let output = run(&file, &args);
            let messages = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(3), "{args:?} {name}: {messages}");
            let _ = std::fs::remove_file(out);
        }
    }
}

#[test]
fn exits_across_a_loss_are_not_timed() {
    let thread = (VM_A, VM_A + 1);
    let exit_across_a_loss = |time_ns| {
        vec![
            exit(1_000, thread, 0, CPUID),
            entry(2_000, thread, 0),
            exit(3_000, thread, 0, CPUID),
            RecordedItem::Lost {
                time_ns,
                name: None,
                count: 100,
            },
            entry(5_000_000, thread, 0),
        ]
    };
    let timed = RecordingFile::new(&exit_across_a_loss(4_000));
    let untimed = RecordingFile::new(&exit_across_a_loss(4_000));
    untimed.change_attrs(|attr| attr[42] &= !4);
    for file in [timed, untimed] {
        let exits = report(&file, &["exits", "--json"]);
        assert_eq!(exits["rows"][0]["count"], 2);
        assert_eq!(exits["rows"][0]["untimed"], 1);
        assert_eq!(exits["rows"][0]["max_ns"], 1_000);
        assert_eq!(exits["loss"]["unmatched"], 1);
        let lines = run(&file, &["trace", "--per-exit"]);
        let lines = String::from_utf8(lines.stdout).expect("text");
        let exits: Vec<_> = lines.lines().filter(|it| it.contains("exit: ")).collect();
        assert_eq!(exits.len(), 1, "{lines}");
        assert!(exits[0].contains("1.000 us"), "{lines}");
        let long = run(&file, &["trace", "--min-duration", "100us"]);
        let long = String::from_utf8(long.stdout).expect("text");
        assert!(!long.contains("kvm_exit"), "{long}");
    }
}

#[test]
fn a_sample_is_an_estimate_and_has_no_times() {
    let thread = (VM_A, VM_A + 1);
    let items: Vec<_> = (1..=20u64)
        .flat_map(|step| {
            let at = step * 1_000_000;
            [exit(at, thread, 0, CPUID), entry(at + 700_000, thread, 0)]
        })
        .collect();
    let file = RecordingFile::new(&items);
    file.change_attrs(|attr| attr[16..24].copy_from_slice(&300u64.to_ne_bytes()));
    let exits = report(&file, &["exits", "--json"]);
    let row = &exits["rows"][0];
    assert_eq!(
        (&row["count"], &row["untimed"]),
        (&6_000.into(), &6_000.into())
    );
    assert_eq!(row["total_ns"], 0);
    let stat = report(&file, &["stat", "--json"]);
    let is_exit = |it: &&Value| it["event"] == "kvm:kvm_exit";
    let events = stat["events"].as_array().unwrap();
    assert_eq!(events.iter().find(is_exit).unwrap()["count"], 6_000);
    let text = String::from_utf8(run(&file, &["exits"]).stdout).expect("text");
    assert!(text.contains("estimated: "), "{text}");
    let out = std::env::temp_dir().join("kvm-collector-consistency-none.csv");
    let args = ["convert", "--to", "csv", "-o", out.to_str().unwrap()];
    let messages = String::from_utf8(run(&file, &args).stderr).expect("text");
    assert!(messages.contains("a sample of the events"), "{messages}");
}

/// Samples whose size is damaged are counted in the range and in the interval in which they are.
#[test]
fn undecodable_samples_are_counted_where_they_are() {
    let thread = (VM_A, VM_A + 1);
    let items: Vec<_> = (1..=5)
        .flat_map(|round| {
            [
                exit(round * 10_000, thread, 0, CPUID),
                entry(round * 10_000 + 500, thread, 0),
            ]
        })
        .collect();
    let file = RecordingFile::new(&items);
    let mut bytes = std::fs::read(file.path()).expect("a file");
    for time_ns in [20_000u64, 40_000] {
        let at = bytes.windows(8).position(|it| it == time_ns.to_ne_bytes());
        // The size of the raw record follows the time and the CPU.
        let at = at.expect("an event") + 16;
        bytes[at..at + 4].copy_from_slice(&0xffffu32.to_ne_bytes());
    }
    std::fs::write(file.path(), bytes).expect("a file");
    for command in ["stat", "exits"] {
        let damaged = |args: &[&str]| -> Vec<u64> {
            let reports = reports(&file, &[&[command, "--json"], args].concat());
            let damaged = reports.iter().map(|it| it["loss"]["damaged"].as_u64());
            damaged.map(|it| it.expect("a number")).collect()
        };
        assert_eq!(damaged(&[]), [2]);
        assert_eq!(damaged(&["--from", "15us"]), [1]);
        // The time is unknown: from the sample before, at 30.5 us, on.
        assert_eq!(damaged(&["--from", "15us", "--until", "20us"]), [0]);
        assert_eq!(damaged(&["--from", "15us", "--until", "25us"]), [1]);
        assert_eq!(damaged(&["-I", "20us"]).iter().sum::<u64>(), 4);
    }
}
