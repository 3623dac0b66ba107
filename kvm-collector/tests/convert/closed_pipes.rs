//! Outputs that nobody reads any more, such as those to `| head`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Failed;

use crate::{sample_recording::write_many_exits, temporary_folder::TemporaryFolder};

/// Commands that write more than pipes and buffers hold, and some that write less.
const COMMANDS: &[&str] = &[
    "convert --to csv -o -",
    "convert --to csv --rows events -o -",
    "convert --to json -o -",
    "convert --to json --rows events -o -",
    "convert --to text -o -",
    "convert --to text --rows events -o -",
    "convert --to parquet -o -",
    "convert --to parquet --rows events -o -",
    "convert --to perfetto -o -",
    "convert --to html -o -",
    "trace",
    "trace --json",
    "trace --per-exit",
    "exits",
    "exits --csv",
    "exits --json",
    "exits -I 10us",
    "exits -I 10us --csv",
    "exits -I 10us --json",
    "stat",
    "stat --csv",
    "stat --json",
    "stat -I 10us",
    "stat -I 10us --csv",
    "stat -I 10us --json",
    "top --once",
    "list vms",
    "list vms --json",
];

pub(crate) fn check() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_many_exits(&path, 10_000);
    let failed = COMMANDS.iter().filter_map(|it| failure(it, &path));
    let failed = failed.collect::<Vec<_>>().join("\n");
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.into())
    }
}

/// Runs a command, with a pipe without a reader as its stdout. Returns what is wrong.
fn failure(arguments: &str, input: &Path) -> Option<String> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(arguments.split(' '))
        .arg("-i")
        .arg(input)
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("the collector");
    let messages = String::from_utf8_lossy(&output.stderr);
    let is_error =
        !output.status.success() || messages.contains("rror") || messages.contains("pipe");
    is_error.then(|| format!("{arguments}: {}: {messages}", output.status))
}
