//! `convert`: its segments, its text formats, its errors, and its files as other tools read them.
//!
//! Perfetto and DuckDB are Python packages, which the tests install from PyPI. Without them, their tests are ignored.

mod perfetto_and_duckdb;
mod python_tools;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod sample_recording;
mod segments;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
};

use libtest_mimic::{Arguments, Failed, Trial};

use perfetto_and_duckdb::{
    check_duckdb_events, check_duckdb_exits, check_perfetto_counts, check_perfetto_slices,
};
use python_tools::python_test;
use sample_recording::{write_many_exits, write_one_exit_of_each_kind};
use temporary_folder::TemporaryFolder;

fn main() -> ExitCode {
    let tests = vec![
        Trial::test("segments_have_the_recorded_times", segments::check_segments),
        Trial::test("segments_add_up_to_the_totals", segments::check_sums),
        Trial::test("csv_has_all_rows_and_losses", check_csv),
        Trial::test("lines_are_those_of_trace", check_lines),
        Trial::test("damaged_recordings_are_converted", check_damaged_recording),
        Trial::test("errors_name_the_file", check_errors),
        Trial::test("ten_million_events_take_little_memory", check_memory).with_ignored_flag(true),
        python_test("perfetto_reads_tracks_and_slices", check_perfetto_slices),
        python_test("perfetto_counts_exits", check_perfetto_counts),
        python_test("duckdb_reads_exits", check_duckdb_exits),
        python_test("duckdb_reads_events", check_duckdb_events),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn run(arguments: &[&str], input: &Path, output: &Path) -> Result<Output, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(arguments).arg("-i").arg(input);
    let output = command.arg("-o").arg(output).output()?;
    Ok(output)
}

/// Runs `convert`. Returns its messages.
fn convert(arguments: &[&str], input: &Path, output: &Path) -> Result<String, Failed> {
    let output = run(&[&["convert"], arguments].concat(), input, output)?;
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(messages)
    } else {
        Err(messages.into())
    }
}

fn check_csv() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.csv"));
    write_one_exit_of_each_kind(&path);
    let messages = convert(&["--to", "csv"], &path, &out)?;
    assert!(
        messages.contains("42 events lost; 1 exit has no entry after it"),
        "{messages}"
    );
    let text = fs::read_to_string(&out)?;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "time_ns,time,cpu,pid,tid,comm,vm,vcpu,reason,reason_code,isa,duration_ns,kernel_ns,vmm_ns,halted_ns,\
         preempted_ns,guest_rip,open,untimed,lost"
    );
    let io = lines.iter().find(|it| it.contains(",io,")).ok_or("no io")?;
    assert!(
        io.ends_with(",io,123,2,1000,100,600,0,300,18446744071578848184,false,false,"),
        "{io}"
    );
    assert!(io.starts_with("5000003000,1700000000000003000,0,"), "{io}");
    assert!(
        lines
            .iter()
            .any(|it| it.ends_with(",npf,1024,2,,,,,,18446744071578852184,false,true,")),
        "{text}"
    );
    assert!(text.contains(",gap:kvm_exit,") && text.contains(",loss:lost,"));
    convert(
        &["--to", "csv", "--reason", "hlt", "--vcpu", "1"],
        &path,
        &out,
    )?;
    let text = fs::read_to_string(&out)?;
    assert_eq!(text.matches(",hlt,").count(), 1, "{text}");
    assert_eq!(text.matches(",io,").count(), 0, "{text}");
    Ok(())
}

fn check_lines() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    write_many_exits(&path, 500);
    for (convert_args, trace_args) in [
        (&["--to", "text", "--rows", "events"][..], &["trace"][..]),
        (&["--to", "json", "--rows", "events"], &["trace", "--json"]),
        (&["--to", "text"], &["trace", "--per-exit"]),
        (&["--to", "json"], &["trace", "--json", "--per-exit"]),
    ] {
        convert(convert_args, &path, &out)?;
        let converted = fs::read_to_string(&out)?;
        run(trace_args, &path, &out)?;
        assert!(converted.lines().count() > 400);
        assert!(converted == fs::read_to_string(&out)?, "{convert_args:?}");
    }
    Ok(())
}

fn check_damaged_recording() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    write_many_exits(&path, 20_000);
    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() / 2])?;
    for to in ["perfetto", "parquet", "csv", "json", "text"] {
        let messages = convert(&["--to", to], &path, &out)?;
        assert!(messages.contains("is incomplete: "), "{to}: {messages}");
        let rest = "only the events before that are used";
        assert!(messages.contains(rest), "{to}: {messages}");
        assert!(fs::metadata(&out)?.len() > 10_000, "{to}");
        let strict = run(&["convert", "--strict", "--to", to], &path, &out)?;
        assert_eq!(strict.status.code(), Some(3), "{to}");
    }
    Ok(())
}

/// Converts in limited memory. Takes minutes, so it runs only with `--ignored`.
fn check_memory() -> Result<(), Failed> {
    const MEMORY_LIMIT_KB: u64 = 600_000;
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("out"));
    write_many_exits(&path, 4_200_000);
    for arguments in [
        "--to perfetto",
        "--to parquet",
        "--to parquet --rows events",
        "--to csv",
        "--to json",
    ] {
        let start = std::time::Instant::now();
        let (path, out) = (path.display(), out.display());
        let binary = env!("CARGO_BIN_EXE_kvm-collector");
        let command = format!(
            "ulimit -v {MEMORY_LIMIT_KB}; exec {binary} convert -i {path} {arguments} -o {out}"
        );
        let output = Command::new("sh").args(["-c", &command]).output()?;
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {messages}");
        let bytes = fs::metadata(folder.file("out"))?.len();
        eprintln!(
            "{arguments}: {:?}, {bytes} bytes: {messages}",
            start.elapsed()
        );
    }
    Ok(())
}

fn check_errors() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_one_exit_of_each_kind(&path);
    let run_failing = |arguments: &[&str], input: &Path, output: &Path| -> Result<String, Failed> {
        let output = run(&[&["convert", "--to"], arguments].concat(), input, output)?;
        assert!(!output.status.success());
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let messages = run_failing(&["csv"], &path, &path)?;
    assert!(messages.contains("is the recording itself"), "{messages}");
    let messages = run_failing(&["csv"], &path, Path::new("/nowhere/out"))?;
    assert!(
        messages.contains("cannot write to /nowhere/out"),
        "{messages}"
    );
    for to in ["perfetto", "parquet", "csv", "json", "text"] {
        let messages = run_failing(&[to], &path, Path::new("/dev/full"))?;
        assert!(
            messages.contains("cannot write to /dev/full"),
            "{to}: {messages}"
        );
        assert!(messages.contains("No space left"), "{to}: {messages}");
    }
    let messages = run_failing(&["csv"], &folder.file("no.data"), &folder.file("out"))?;
    assert!(messages.contains("no.data"), "{messages}");
    Ok(())
}
