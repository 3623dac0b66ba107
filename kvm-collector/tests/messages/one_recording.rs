//! Options about one recording: a time range, several recordings, and selections without events.

use crate::{
    check, run,
    sample::{TGID, write_mixed_recording},
    temporary_folder::TemporaryFolder,
};

#[test]
fn a_time_range_needs_a_recording() {
    for command in ["stat", "exits", "trace", "top", "list"] {
        for option in ["--from", "--until"] {
            check(
                &[command, option, "1s"],
                2,
                &[&format!("{option} needs -i FILE")],
            );
        }
    }
}

#[test]
fn commands_that_read_one_recording_refuse_several() {
    let folder = TemporaryFolder::new();
    for name in ["a.data", "b.data"] {
        write_mixed_recording(&folder.file(name));
    }
    let file = folder.file("a.data");
    let directory = file.parent().expect("a directory");
    let directory = directory.to_str().expect("UTF-8");
    let commands: [(&str, &[&str]); 4] = [
        ("top", &["--once"]),
        ("list", &[]),
        ("trace", &[]),
        ("convert", &["-o", "-", "--to", "csv"]),
    ];
    for (command, options) in commands {
        for several in [directory.to_owned(), format!("{directory}/*.data")] {
            let args = [&[command, "-i", &several], options].concat();
            let reads_one = format!("`{command}` reads one recording");
            check(&args, 2, &[&reads_one, "`stat` and `exits` sum up several"]);
        }
        // A glob that one file matches is that file.
        let one = format!("{directory}/a*.data");
        check(&[&[command, "-i", &one], options].concat(), 0, &[]);
    }
}

#[test]
fn nothing_is_printed_before_an_error_about_an_absent_vm() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let pid = TGID.to_string();
    let commands: [&[&str]; 5] = [
        &["trace"],
        &["trace", "--json"],
        &["trace", "--per-exit", "--until", "1s"],
        &["convert", "--to", "csv", "-o", "-"],
        &["convert", "--to", "json", "--rows", "events", "-o", "-"],
    ];
    for command in commands {
        let args = [command, &["-i", file, "-p", &pid]].concat();
        assert!(!run(&args).stdout.is_empty(), "{args:?}");
        let args = [&args[..], &["--vm", "nosuch"]].concat();
        check(&args, 2, &["no events of a VM named `nosuch`"]);
        assert!(run(&args).stdout.is_empty(), "{args:?}");
    }
    // The range is the first problem.
    check(
        &["trace", "-i", file, "--vm", "nosuch", "--from", "9s"],
        2,
        &["is outside of"],
    );
}

#[test]
fn intervals_are_not_reported_before_a_selection_is_known_to_match() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    for command in ["stat", "exits"] {
        for format in ["--json", "--csv", "--format=text"] {
            let args = [command, "-i", file, "-I", "10us", format];
            let output = run(&[&args[..], &["--vm", "nosuch"]].concat());
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text, "", "{args:?}");
            // One VM that occurs is not enough.
            let pid = TGID.to_string();
            let output = run(&[&args[..], &["-p", &pid, "--vm", "nosuch"]].concat());
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
            let all = run(&args).stdout;
            let selected = run(&[&args[..], &["-p", &TGID.to_string()]].concat()).stdout;
            let lines = |text: &[u8]| text.iter().filter(|it| **it == b'\n').count();
            assert!(lines(&all) > 5, "{args:?}");
            assert_eq!(lines(&selected), lines(&all), "{args:?}");
        }
        if command == "exits" {
            let slow = [
                "exits",
                "-i",
                file,
                "--slow",
                "1ns",
                "-p",
                &TGID.to_string(),
            ];
            let lines = String::from_utf8(run(&slow).stdout).expect("UTF-8");
            assert!(lines.contains(" took "), "{lines}");
            let output = run(&[&slow[..], &["--vm", "nosuch"]].concat());
            assert!(output.stdout.is_empty(), "{output:?}");
        }
        // No exit of this vCPU: the empty intervals are reported at the end.
        let args = [command, "-i", file, "-I", "10us", "--json", "--vcpu", "9"];
        let text = String::from_utf8(run(&args).stdout).expect("UTF-8");
        assert!(
            text.contains("\"interval\"") && text.contains("\"total\""),
            "{text}"
        );
    }
}
