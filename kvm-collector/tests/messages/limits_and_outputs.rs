//! Closed and full outputs, and limits of arguments and messages.

use std::{
    fs::OpenOptions,
    process::{Command, Stdio},
};

use crate::{TemporaryFolder, write_recording};

fn collector(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(args);
    command
}

#[test]
fn a_full_stderr_is_no_failure() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    // The first prints a summary, the second an error.
    for (args, code) in [(["trace", "-i", file], 0), (["trace", "-i", "/missing"], 2)] {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let status = collector(&args)
            .stdout(Stdio::null())
            .stderr(full.expect("/dev/full"))
            .status()
            .expect("a run");
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure_in_any_format() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    for format in ["csv", "json", "text", "parquet", "html", "perfetto"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = collector(&["convert", "-i", file, "--to", format, "-o", "-"])
            .stdout(writer)
            .output()
            .expect("a run");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{format}: {message}");
    }
}

#[test]
fn a_message_that_quotes_a_long_argument_is_short() {
    let long = "a".repeat(100_000);
    let output = collector(&["exits", "-i", &long]).output().expect("a run");
    assert!(output.stderr.len() < 5000, "{}", output.stderr.len());
    assert!(output.stderr.ends_with(b"...\n"));
}

#[test]
fn the_number_of_arguments_is_limited() {
    let output = collector(&["list", "events"])
        .args(std::iter::repeat_n("-ekvm_exit", 10_000))
        .output()
        .expect("a run");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("at most 10000 arguments"), "{message}");
}
