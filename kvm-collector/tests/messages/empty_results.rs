//! An empty result says what there was, and which option left it out.

use crate::{
    check,
    sample::{
        write_empty_recording, write_mixed_recording, write_recording_without_exits,
        write_untimed_exits,
    },
    temporary_folder::TemporaryFolder,
};

/// Runs a command on a recording. Checks that it succeeds and says on stderr all of `texts`.
fn check_recording(write: fn(&std::path::Path), args: &[&str], texts: &[&str]) {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write(&file);
    let file = file.to_str().expect("UTF-8");
    check(&[&args[..1], &["-i", file], &args[1..]].concat(), 0, texts);
}

#[test]
fn exits_that_an_option_left_out_are_counted() {
    let cases: [(&[&str], &[&str]); 7] = [
        (
            &["exits", "--from", "1ns", "-d", "1ns"],
            &["no VM exits in the selected time of", "has 30"],
        ),
        (
            &["exits", "--reason", "EPT_*"],
            &[
                "no VM exits matched",
                "has 30, none of them with --reason 'EPT_*'",
                "reasons seen: hlt (20), io (10)",
            ],
        ),
        (
            &["exits", "--by", "vcpu", "--reason", "cpuid", "--json"],
            &["has 30, none of them with --reason cpuid"],
        ),
        (
            &["exits", "--vcpu", "9"],
            &["has 30, none of them with --vcpu 9", "vCPUs seen: 0 (30)"],
        ),
        (
            &["exits", "--tid", "7", "--vcpu", "0"],
            &["has 30, none of them with --tid 7"],
        ),
        (
            &["exits", "--kind", "pio", "--vcpu", "1"],
            &[
                "no events of kind pio matched",
                "has 10, none of them with --vcpu 1",
            ],
        ),
        (
            &["exits", "--kind", "kvm_entry.vcpu_id", "--vcpu", "3"],
            &["has 31, none of them with --vcpu 3"],
        ),
    ];
    for (args, texts) in cases {
        check_recording(write_mixed_recording, args, texts);
    }
}

/// The summary names exits without a time, so the recording is not said to have none.
#[test]
fn exits_without_a_time_are_not_denied() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_untimed_exits(&file);
    for args in [
        &["trace", "--per-exit", "-i"][..],
        &["convert", "--to", "json", "-o", "-", "-i"],
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
            .args(args)
            .arg(&file)
            .output()
            .expect("the collector runs");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(
            stderr.contains("1 exit without a following entry"),
            "{stderr}"
        );
        assert!(!stderr.contains("no VM exits"), "{stderr}");
    }
}

#[test]
fn events_that_an_option_left_out_are_counted() {
    let cases: [(&[&str], &[&str]); 7] = [
        (
            &["stat", "--vcpu", "9"],
            &["no events matched", "has 71, none of them with --vcpu 9"],
        ),
        (
            &["stat", "--vcpu", "9", "-e", "kvm_pio"],
            &["has 10, none of them with --vcpu 9"],
        ),
        (
            &["trace", "-e", "kvm_exit", "--reason", "npf"],
            &[
                "has 30, none of them with --reason npf",
                "reasons seen: hlt (20), io (10)",
            ],
        ),
        (
            &["trace", "--per-exit", "--reason", "npf"],
            &[
                "no VM exits matched",
                "has 30, none of them with --reason npf",
            ],
        ),
        (
            &["trace", "--min-duration", "1s"],
            &[
                "no events matched: 30 VM exits were shorter than --min-duration",
                "2.000 us",
            ],
        ),
        (
            &["trace", "--min-duration", "1s", "--per-exit"],
            &["no exits matched: 30 VM exits were shorter"],
        ),
        (
            &["trace", "-e", "kvm_pio", "--filter", "port == 1"],
            &["no events matched: 10 events occurred, none of them with --filter"],
        ),
    ];
    for (args, texts) in cases {
        check_recording(write_mixed_recording, args, texts);
    }
}

#[test]
fn several_recordings_are_explained_as_one() {
    let folder = TemporaryFolder::new();
    for name in ["a.data", "b.data"] {
        write_mixed_recording(&folder.file(name));
    }
    let file = folder.file("a.data");
    let directory = file.parent().and_then(|it| it.to_str()).expect("UTF-8");
    let cases: [(&[&str], &str); 7] = [
        (
            &["exits", "--reason", "npf"],
            "no VM exits matched: the 2 recordings have 60, none of them with --reason npf; reasons seen: hlt (40), io (20)",
        ),
        (
            &["exits", "--vcpu", "9"],
            "the 2 recordings have 60, none of them with --vcpu 9; vCPUs seen: 0 (60)",
        ),
        (
            &["exits", "--kind", "pio", "--vcpu", "1"],
            "no events of kind pio matched: the 2 recordings have 20, none of them with --vcpu 1",
        ),
        (
            &["exits", "--from", "1ns", "-d", "1ns"],
            "no VM exits in the selected time of the 2 recordings; the whole recordings have 60",
        ),
        (
            &["stat", "--vcpu", "9"],
            "no events matched: the 2 recordings have 142, none of them with --vcpu 9",
        ),
        (
            &["stat", "--vcpu", "9", "-e", "kvm_pio"],
            "the 2 recordings have 20, none of them with --vcpu 9",
        ),
        (&["exits"], ""),
    ];
    for (args, text) in cases {
        let args = [&args[..1], &["-i", directory], &args[1..]].concat();
        check(&args, 0, &[text]);
    }
}

#[test]
fn every_command_says_which_option_left_everything_out() {
    let none = "has 30, none of them with --vcpu 9; vCPUs seen: 0 (30)";
    let reason = "has 30, none of them with --reason npf; reasons seen: hlt (20), io (10)";
    let cases: [(&[&str], &str); 11] = [
        (&["top", "--once", "--vcpu", "9"], none),
        (&["exits", "--vcpu", "9"], none),
        (&["trace", "--per-exit", "--vcpu", "9"], none),
        (&["convert", "--to", "csv", "-o", "-", "--vcpu", "9"], none),
        (&["convert", "--to", "text", "-o", "-", "--vcpu", "9"], none),
        (
            &["convert", "--to", "csv", "-o", "-", "--reason", "npf"],
            reason,
        ),
        (
            &["convert", "--to", "json", "-o", "-", "--reason", "npf"],
            reason,
        ),
        (
            &["convert", "--to", "perfetto", "-o", "-", "--reason", "npf"],
            reason,
        ),
        (
            &["convert", "--to", "html", "-o", "-", "--vcpu", "9"],
            "has 71, none of them with --vcpu 9",
        ),
        (
            &[
                "convert", "--to", "csv", "--rows", "events", "-e", "kvm_pio", "-o", "-", "--vcpu",
                "9",
            ],
            "has 10, none of them with --vcpu 9",
        ),
        (
            &[
                "convert", "--to", "csv", "-o", "-", "--from", "1ns", "-d", "1ns",
            ],
            "in the selected time of",
        ),
    ];
    for (args, text) in cases {
        check_recording(write_mixed_recording, args, &["no ", text]);
    }
    let args = ["top", "--once", "--kind", "pio", "--vcpu", "1"];
    let texts = [
        "no events of kind pio matched",
        "has 10, none of them with --vcpu 1",
    ];
    check_recording(write_mixed_recording, &args, &texts);
}

#[test]
fn recordings_without_events_and_without_exits_are_different() {
    for command in ["stat", "exits", "trace"] {
        check_recording(write_empty_recording, &[command], &["has no events"]);
    }
    let without_exits = [
        "no VM exits",
        "has 3 events, but none of kvm_exit",
        "kvm_pio (3)",
    ];
    check_recording(write_recording_without_exits, &["exits"], &without_exits);
    let args = ["trace", "--per-exit"];
    check_recording(write_recording_without_exits, &args, &without_exits);
    let args = ["exits", "--kind", "kvm_exit.guest_rip"];
    let texts = ["no events of kind kvm_exit.guest_rip", "kvm_pio (3)"];
    check_recording(write_recording_without_exits, &args, &texts);
}

#[test]
fn a_filter_says_which_events_it_applies_to() {
    let args = ["trace", "--filter", "port == 0x3f8"];
    let texts = ["--filter applies to kvm:kvm_pio; all other events are shown, too"];
    check_recording(write_mixed_recording, &args, &texts);
    let args = ["trace", "--reason", "hlt"];
    let texts = ["--reason hlt applies to kvm_exit; all other events are shown, too"];
    check_recording(write_mixed_recording, &args, &texts);
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let args = ["trace", "-i", file, "-e", "kvm_pio", "--reason", "hlt"];
    check(&args, 2, &["add kvm_exit to -e"]);
}
