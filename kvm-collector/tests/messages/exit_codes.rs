//! Exit code 2: the command line is wrong, or names something that does not exist. Exit code 1: anything else failed.

use std::fs;

use crate::{check, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

#[test]
fn values_that_name_nothing_are_usage_errors() {
    let folder = TemporaryFolder::new();
    let (file, text) = (folder.file("kvm.data"), folder.file("text"));
    write_mixed_recording(&file);
    fs::write(&text, "text").expect("a file");
    let (file, text) = (file.to_str().expect("UTF-8"), text.to_str().expect("UTF-8"));
    let absent = format!("{file}.absent");
    let glob = format!("{file}.absent*");
    for command in ["stat", "exits", "trace", "list"] {
        check(&[command, "-i", &absent], 2, &["No such file"]);
        check(&[command, "-i", &glob], 2, &["there is no file"]);
        check(&[command, "-i", text], 2, &["is not a perf.data file"]);
    }
    let exits = ["exits", "-i", file];
    let with = |args: &[&str], texts: &[&str]| {
        check(&[&exits[..], args].concat(), 2, texts);
    };
    with(&["--baseline", &absent], &["No such file"]);
    with(&["--baseline", file], &["it is a recording"]);
    with(&["--baseline", text], &["is not JSON"]);
    with(&["--vm", "nosuch"], &["no events of a VM named `nosuch`"]);
    with(&["-p", "17"], &["no events of process 17"]);
    with(&["--from", "9s"], &["is outside of"]);
    check(&["stat", "-p", "1073741824", "-d", "1ms"], 2, &[]);
}

#[test]
fn failures_that_another_command_line_does_not_avoid_are_no_usage_errors() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let bytes = fs::read(&file).expect("a file");
    let damaged = folder.file("damaged");
    fs::write(&damaged, &bytes[..200]).expect("a file");
    let (file, damaged) = (
        file.to_str().expect("UTF-8"),
        damaged.to_str().expect("UTF-8"),
    );
    check(&["stat", "-i", damaged], 1, &["is malformed"]);
    check(
        &["stat", "-i", file, "-o", "/no/such/folder/x"],
        1,
        &["/no/such/folder"],
    );
}
