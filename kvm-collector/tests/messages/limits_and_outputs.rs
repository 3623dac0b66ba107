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
    let long = "a".repeat(60_000);
    let options = [
        "--input=",
        "--by=",
        "--vcpu=",
        "--sort=",
        "--format=",
        "--",
        "",
    ];
    for option in options {
        let args = ["exits", &format!("{option}{long}")];
        let output = collector(&args).output().expect("a run");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{option}");
        assert!(message.len() < 5000, "{option}: {}", message.len());
        assert!(message.contains("aaa..."), "{message}");
    }
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

/// An option that takes several values, its command, and a value.
const LISTS: [(&str, &str, &str); 15] = [
    ("exits", "-p", "1"),
    ("exits", "--vm", "*"),
    ("exits", "--vcpu", "0-3"),
    ("exits", "--tid", "1"),
    ("exits", "--reason", "h*"),
    ("exits", "--by", "vm"),
    ("exits", "--percentiles", "95"),
    ("exits", "--columns", "count"),
    ("exits", "--cause", "rip"),
    ("stat", "-e", "kvm_*"),
    ("list", "-e", "kvm_{exit,pio}"),
    ("trace", "--filter", "vcpu_id == 0"),
    ("convert", "--partition", "dt"),
    ("guest", "--kind", "io"),
    ("guest", "--cpu", "0"),
];

#[test]
fn the_number_of_values_is_limited_in_every_option() {
    for (command, option, value) in LISTS {
        let run = |args: &[String]| {
            let output = collector(&[command]).args(args).output().expect("a run");
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{option}: {message}");
            message
        };
        let equals = if option.starts_with("--") { "=" } else { "" };
        let list = |count| vec![value; count].join(",");
        let limit = format!("at most 1000 values of {option}");
        let given = |count: u32| format!(", not {count}");
        let repeated = vec![format!("{option}{equals}{value}"); 9000];
        let mut cases = vec![(repeated, given(9000))];
        if option != "--filter" {
            let half = format!("{option}{equals}{}", list(501));
            cases.push((vec![half.clone(), half], given(1002)));
        }
        for (args, number) in cases {
            let args = with_required_options(command, args);
            let message = run(&args);
            // Of two names of an option, errors have the long one.
            let is_named =
                message.contains(&limit) || message.contains("at most 1000 values of --");
            assert!(is_named && message.contains(&number), "{option}: {message}");
        }
    }
}

#[test]
fn the_most_values_take_little_time_and_memory() {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let lists = [
        ("exits", "--vm", "*{a,b}*c*d*"),
        ("exits", "--reason", "*l*t*"),
        ("stat", "-e", "*v*m*_*"),
        ("exits", "--percentiles", "95"),
        ("exits", "--by", "vcpu"),
        ("exits", "--columns", "count"),
        ("exits", "--tid", "7"),
    ];
    for (command, option, value) in lists {
        let values = vec![value; 1000].join(",");
        let output = Command::new("sh")
            .args(["-c", "ulimit -t 20 -v 2000000; exec \"$@\"", "sh"])
            .args([env!("CARGO_BIN_EXE_kvm-collector"), command, "-i", file])
            .args([option, &values])
            .output()
            .expect("a run");
        let message = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 2)), "{option}: {code:?} {message}");
    }
}

fn with_required_options(command: &str, mut args: Vec<String>) -> Vec<String> {
    if command == "convert" {
        args.extend(["-i", "x", "-o", "y"].map(str::to_owned));
    }
    args
}

#[test]
fn a_file_that_is_named_often_causes_few_warnings() {
    let folder = TemporaryFolder::new();
    let copies: Vec<_> = (0..5)
        .map(|it| folder.file(&format!("{it}.data")))
        .collect();
    for copy in &copies {
        write_recording(copy);
    }
    let inputs = (0..1000).flat_map(|_| &copies);
    let output = collector(&["stat"])
        .args(inputs.map(|it| format!("-i{}", it.display())))
        .output()
        .expect("a run");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    let lines: Vec<_> = message.lines().collect();
    let repeated = lines
        .iter()
        .filter(|it| it.contains("is named more than once"));
    assert_eq!(repeated.count(), 3, "{message}");
    assert!(message.contains("read once: 2 more files"), "{message}");
}
