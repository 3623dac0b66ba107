//! Recordings through pipes and FIFOs, by whatever name.

use std::{
    fs::{self, File},
    process::{Command, Output, Stdio},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    collector::{contended_vms, run},
    recording_file::RecordingFile,
    temporary_folder::TemporaryFolder,
};

/// Runs a shell script with `$0` as the collector, `$1` as the recording and `$2` as another path.
fn shell(script: &str, file: &RecordingFile, other: &str) -> Output {
    Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_kvm-collector")])
        .arg(file.path())
        .arg(other)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}

fn counts(output: &Output) -> serde_json::Value {
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{messages}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let fields = ["rows", "vcpus", "elapsed_ns", "loss"].map(|it| report[it].clone());
    assert_ne!(fields[0].as_array().map_or(0, Vec::len), 0);
    fields.to_vec().into()
}

#[test]
fn streams_are_read_like_files() {
    let folder = TemporaryFolder::new();
    let fifo = folder.file("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    let fifo = fifo.to_str().expect("UTF-8");
    let items = contended_vms();
    for file in [RecordingFile::new(&items), RecordingFile::piped(&items)] {
        let expected = counts(&run(&file, &["exits", "--json"]));
        for script in [
            r#"cat "$1" | "$0" exits --json -i -"#,
            r#""$0" exits --json -i - < "$1""#,
            r#"cat "$1" | "$0" exits --json -i /dev/stdin"#,
            r#""$0" exits --json -i /dev/stdin < "$1""#,
            r#""$0" exits --json -i <(cat "$1")"#,
            r#"cat "$1" > "$2" & "$0" exits --json -i "$2""#,
        ] {
            assert_eq!(counts(&shell(script, &file, fifo)), expected, "{script}");
        }
        let html = shell(
            r#"cat "$1" | "$0" convert -i - --to html -o -"#,
            &file,
            fifo,
        );
        assert!(html.status.success() && html.stdout.ends_with(b"</html>\n"));
    }
}

#[test]
fn a_stream_that_cannot_be_stored_says_where() {
    let file = RecordingFile::new(&contended_vms());
    let script = r#"cat "$1" | TMPDIR=/nonexistent "$0" stat -i -"#;
    let output = shell(script, &file, "");
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{messages}");
    for text in ["/nonexistent", "TMPDIR", "-i"] {
        assert!(messages.contains(text), "{messages}");
    }
}

#[test]
fn streams_cannot_be_combined_with_other_recordings() {
    let file = RecordingFile::new(&contended_vms());
    let folder = TemporaryFolder::new();
    let fifo = folder.file("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
    let output = run(&file, &["stat", "-i", fifo.to_str().expect("UTF-8")]);
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains("a pipe or device"), "{messages}");
}

/// A damaged stream is refused, with its reason.
#[test]
fn streams_that_are_cut_off_are_errors() {
    let file = RecordingFile::new(&contended_vms());
    let length = fs::metadata(file.path()).expect("a file").len();
    for bytes in [0, 7, 50, 200] {
        let folder = TemporaryFolder::new();
        let short = folder.file("short");
        let whole = fs::read(file.path()).expect("a file");
        fs::write(&short, &whole[..bytes]).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
            .args(["stat", "-i", "-"])
            .stdin(File::open(&short).expect("a file"))
            .output()
            .expect("the collector runs");
        // What has not even a header is not a recording.
        let code = if bytes < 16 { 2 } else { 1 };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{bytes} of {length} bytes"
        );
    }
}
