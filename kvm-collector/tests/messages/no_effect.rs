//! An option that would have no effect is refused, and the message says what to do instead.

use crate::{check, run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn options_without_effect_are_usage_errors() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let commands: [(&[&str], &[&str]); 13] = [
        (&["top", "--once", "-I", "2s"], &["--once", "use -d"]),
        (
            &["top", "--once", "-i", file, "-I", "2s", "-d", "1s"],
            &["--once", "use -d"],
        ),
        (
            &["top", "-i", file, "--vm", "a", "--no-wait"],
            &["--input", "--no-wait"],
        ),
        (
            &[
                "convert",
                "-i",
                file,
                "-o",
                "-",
                "--to",
                "csv",
                "--vm",
                "a",
                "--no-wait",
            ],
            &["--input", "--no-wait"],
        ),
        (
            &["trace", "-i", file, "--per-exit", "--filter", "port == 1"],
            &[
                "'port == 1'",
                "--per-exit",
                "a field of kvm_exit",
                "--reason",
            ],
        ),
        (
            &[
                "trace",
                "-i",
                file,
                "--min-duration",
                "1us",
                "--filter",
                "vcpu_id == 0",
                "--filter",
                "kvm_pio.port == 1",
            ],
            &["'kvm_pio.port == 1'", "--min-duration"],
        ),
        (
            &[
                "exits",
                "-i",
                file,
                "--columns",
                "count,p90",
                "--percentiles",
                "90,95",
            ],
            &["--percentiles 95 has no effect", "add p95 to --columns"],
        ),
        (
            &["exits", "-i", file, "--sort", "p95", "--baseline", "x"],
            &["can be sorted by count, time, cost, mean, p99"],
        ),
        (
            &["exits", "-i", file, "--sort", "p99.9", "--baseline", "x"],
            &["can be sorted by count, time, cost, mean, p99"],
        ),
        (
            &["guest", "--timer", "1ms", "--kind", "io"],
            &["add timer to --kind"],
        ),
        (&["exits", "--columns", "count", "--json"], &["--columns"]),
        (
            &["convert", "-i", file, "-o", "x.html", "--rows", "exits"],
            &["--rows"],
        ),
        (&["list", "vms", "-e", "kvm_exit"], &["list vms -i FILE"]),
    ];
    for (args, expected) in commands {
        check(args, 2, expected);
    }
}

#[test]
fn filters_of_whole_exits_select_by_fields_of_the_exit() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let lines = |filter| {
        let output = run(&["trace", "-i", file, "--per-exit", "--filter", filter]);
        assert!(output.status.success(), "{output:?}");
        output.stdout.iter().filter(|it| **it == b'\n').count()
    };
    assert_eq!(lines("exit_reason == 0x7b"), 10);
    assert_eq!(lines("vcpu_id == 0"), 30);
    let used = [
        "exits",
        "-i",
        file,
        "--columns",
        "count",
        "--percentiles",
        "90",
    ];
    check(&[&used[..], &["--sort", "p90"]].concat(), 0, &[]);
}

#[test]
fn reasons_that_concern_only_some_events_are_reported() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let events = [
        "convert", "-i", file, "-o", "-", "--to", "csv", "--rows", "events",
    ];
    let text =
        "--reason hlt applies to kvm_exit; all other events are converted, too: add -e kvm_exit";
    check(&[&events[..], &["--reason", "hlt"]].concat(), 0, &[text]);
    let selected = [&events[..], &["--reason", "hlt", "-e", "kvm_exit"]].concat();
    let stderr = run(&selected).stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(!stderr.contains("applies to"), "{stderr}");
}
