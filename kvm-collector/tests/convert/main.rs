//! `convert`: its segments, its text formats, its errors, and its files as other tools read them.
//!
//! Perfetto and DuckDB are Python packages, which the tests install from PyPI. Without them, their tests are ignored.

mod closed_pipes;
mod partitions;
mod perfetto_and_duckdb;
#[path = "../common/python.rs"]
mod python;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod sample_recording;
mod segments;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use perfetto_and_duckdb::{
    check_duckdb_events, check_duckdb_exits, check_perfetto_counts, check_perfetto_slices,
};
use python::python_test;
use sample_recording::{BOOT_ID, HOST, VM, VM_UUID, write_many_exits, write_one_exit_of_each_kind};
use temporary_folder::TemporaryFolder;

fn main() -> ExitCode {
    let tests = vec![
        Trial::test("segments_have_the_recorded_times", segments::check_segments),
        Trial::test("segments_add_up_to_the_totals", segments::check_sums),
        Trial::test("csv_is_one_table", check_csv),
        Trial::test(
            "events_have_the_vcpu_of_their_thread",
            check_vcpus_of_events,
        ),
        Trial::test(
            "per_exit_json_has_everything_about_an_exit",
            check_per_exit_json,
        ),
        Trial::test("causes_are_those_of_exits", check_causes),
        Trial::test("format_follows_from_the_suffix", check_usage),
        Trial::test("partitions_are_by_day_and_host", partitions::check_files),
        Trial::test("partitions_need_a_folder", partitions::check_errors),
        Trial::test(
            "hosts_that_cannot_be_folders_are_errors",
            partitions::check_hosts,
        ),
        Trial::test("a_closed_pipe_is_no_error", closed_pipes::check),
        Trial::test("lines_are_those_of_trace", check_lines),
        Trial::test("damaged_recordings_are_converted", check_damaged_recording),
        Trial::test("errors_name_the_file", check_errors),
        Trial::test("ten_million_events_take_little_memory", check_memory).with_ignored_flag(true),
        python_test("perfetto_reads_tracks_and_slices", check_perfetto_slices),
        python_test("perfetto_counts_exits", check_perfetto_counts),
        python_test("duckdb_reads_exits", check_duckdb_exits),
        python_test("duckdb_reads_events", check_duckdb_events),
        python_test("duckdb_reads_partitions", partitions::check_duckdb),
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
    let losses = folder.file("loss.json");
    write_one_exit_of_each_kind(&path);
    let messages = convert(&["--loss", &losses.to_string_lossy()], &path, &out)?;
    assert!(
        messages.contains("42 events lost; 1 exit without a following entry"),
        "{messages}"
    );
    let text = fs::read_to_string(&out)?;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "time_ns,time,host,boot_id,cpu,pid,tid,comm,vm,vm_uuid,vcpu,reason,reason_code,isa,duration_ns,kernel_ns,vmm_ns,\
         halted_ns,preempted_ns,idle_ns,cause_kind,cause_code,cause,cause_name,guest_rip,is_open,is_untimed"
    );
    let io = lines.iter().find(|it| it.contains(",io,")).ok_or("no io")?;
    assert!(
        io.ends_with(
            ",0,io,123,svm,1000,100,600,0,300,0,pio,0x3f8,port 0x3f8 out,COM1 data,0xffffffff81000bb8,false,false"
        ),
        "{io}"
    );
    let time = "5000003000,2023-11-14T22:13:20.000003000Z,";
    assert!(
        io.starts_with(&format!("{time}{HOST},{BOOT_ID},0,")),
        "{io}"
    );
    assert!(io.contains(&format!(",{VM},{VM_UUID},0,io,")), "{io}");
    assert!(
        lines
            .iter()
            .any(|it| it.ends_with(",npf,1024,svm,,,,,,,,,,,0xffffffff81001b58,false,true")),
        "{text}"
    );
    // All lines are exits: the losses are in another file.
    assert_eq!(lines.len(), 1 + 6, "{text}");
    let losses: Value = serde_json::from_slice(&fs::read(&losses)?)?;
    assert_eq!(losses["view"], "loss");
    assert_eq!(losses["host"], HOST);
    assert_eq!(losses["loss"]["lost"], 42);
    assert_eq!(losses["loss"]["unmatched"], 1);
    let selection = ["--reason", "hlt", "--vcpu", "1"];
    convert(&selection, &path, &out)?;
    let text = fs::read_to_string(&out)?;
    assert_eq!(text.matches(",hlt,").count(), 1, "{text}");
    assert_eq!(text.matches(",io,").count(), 0, "{text}");
    Ok(())
}

/// Every event after the first `kvm_exit` or `kvm_entry` of a thread has its vCPU, also if these are not selected.
fn check_vcpus_of_events() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("events.csv"));
    write_one_exit_of_each_kind(&path);
    for selection in [
        &["--rows", "events"][..],
        &["--rows", "events", "-e", "kvm_pio,sched:*"],
    ] {
        convert(selection, &path, &out)?;
        let text = fs::read_to_string(&out)?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names = reader.headers()?.clone();
        let column = |name: &str| names.iter().position(|it| it == name).unwrap_or(usize::MAX);
        let (vcpu, event, vm) = (column("vcpu"), column("event"), column("vm"));
        let uuid = column("vm_uuid");
        let mut events = Vec::new();
        for row in reader.records() {
            let row = row?;
            assert!(!row[vcpu].is_empty(), "{row:?}");
            assert_eq!((&row[vm], &row[uuid]), (VM, VM_UUID), "{row:?}");
            events.push(row[event].to_owned());
        }
        assert!(events.iter().any(|it| it == "kvm:kvm_pio"), "{text}");
        // The switch to the vCPU thread happens in another thread.
        let switches = events.iter().filter(|it| *it == "sched:sched_switch");
        assert_eq!(switches.count(), 2, "{text}");
    }
    Ok(())
}

fn check_per_exit_json() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.json"));
    write_one_exit_of_each_kind(&path);
    convert(&[], &path, &out)?;
    let text = fs::read_to_string(&out)?;
    let io = text
        .lines()
        .find(|it| it.contains("\"io\""))
        .ok_or("no io")?;
    let expected = [
        "{\"schema_version\":2,\"time_ns\":5000003000,\"time\":\"2023-11-14T22:13:20.000003000Z\",\"host\":\"host-1\",\"boot_id\":",
        ",\"cpu\":0,\"pid\":1073741824,\"tid\":1073741824,\"comm\":\"",
        "\",\"vm\":\"web-1\",\"vm_uuid\":\"1b4e28ba-2fa1-11d2-883f-0016d3cca427\",\"vcpu\":0,\"reason\":\"io\",\"reason_code\":123,\"isa\":\"svm\",\"duration_ns\":1000,\"kernel_ns\":100,\
         \"vmm_ns\":600,\"halted_ns\":0,\"preempted_ns\":300,\"idle_ns\":0,\"cause_kind\":\"pio\",\"cause_code\":1016,\
         \"cause\":\"port 0x3f8 out\",\"cause_name\":\"COM1 data\",\"guest_rip\":\"0xffffffff81000bb8\",\"left_out\":0,\
         \"inside\":[{\"event\":\"kvm:kvm_pio\",\"after_ns\":50,\"text\":\"pio_write at 0x3f8 size 1 count 1",
    ];
    let mut rest = io;
    for part in expected {
        rest = rest
            .split_once(part)
            .ok_or_else(|| format!("no {part} in {io}"))?
            .1;
    }
    // A part is unknown without the events that tell it, and so is the kernel's part.
    convert(&["-e", "kvm_pio"], &path, &out)?;
    let text = fs::read_to_string(&out)?;
    let io = text
        .lines()
        .find(|it| it.contains("\"io\""))
        .ok_or("no io")?;
    let unknown = "\"duration_ns\":1000,\"kernel_ns\":null,\"vmm_ns\":null,\"halted_ns\":null,\"preempted_ns\":null,\"idle_ns\":0,\"cause_kind\":\"pio\"";
    assert!(io.contains(unknown), "{io}");
    Ok(())
}

/// The cause of an exit is the last event that tells one, as in `exits --causes`.
fn check_causes() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.csv"));
    write_many_exits(&path, 4_000);
    let json = folder.file("exits.json");
    let arguments = ["exits", "--preempt", "--causes", "16", "--json"];
    let output = run(&arguments, &path, &json)?;
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let mut expected = BTreeMap::new();
    for row in report["rows"].as_array().into_iter().flatten() {
        for cause in row["causes"].as_array().into_iter().flatten() {
            let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
            let key = (
                text(&row["reason"]),
                text(&cause["cause"]),
                text(&cause["cause_name"]),
                format!("{:#x}", cause["cause_code"].as_u64().unwrap_or(0)),
            );
            let ns = cause["total_ns"].as_u64().unwrap_or(0);
            expected.insert(key, (cause["at_least"].as_u64().unwrap_or(0), ns));
        }
    }
    assert!(expected.len() > 2, "{report}");
    convert(&[], &path, &out)?;
    let mut found: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(&out)?;
    let names = reader.headers()?.clone();
    for row in reader.records() {
        let row = row?;
        let cell = |name: &str| {
            let index = names.iter().position(|it| it == name).unwrap_or(usize::MAX);
            row[index].to_owned()
        };
        // `exits` has the causes of timed exits.
        if cell("cause").is_empty() || cell("duration_ns").is_empty() {
            continue;
        }
        let key = (
            cell("reason"),
            cell("cause"),
            cell("cause_name"),
            cell("cause_code"),
        );
        let sum = found.entry(key).or_default();
        sum.0 += 1;
        sum.1 += cell("duration_ns").parse::<u64>()?;
    }
    assert_eq!(found, expected);
    Ok(())
}

fn check_usage() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_one_exit_of_each_kind(&path);
    for (arguments, name, expected) in [
        (
            &[][..],
            "out.xyz",
            "perfetto (.pftrace, .perfetto-trace), parquet (.parquet)",
        ),
        (&[], "out", "use --to"),
        (
            &["--rows", "exits"],
            "out.html",
            "--rows cannot be used with --to html",
        ),
        (
            &["--rows", "events"],
            "out.pftrace",
            "--rows cannot be used with --to perfetto",
        ),
        (&["-e", "kvm_exit"], "out.csv", "add --rows events"),
        (&["-e", "kvm_exit"], "out.parquet", "add --rows events"),
        (
            &["-e", "kvm_exit"],
            "out.pftrace",
            "select exits with --reason",
        ),
        (
            &["--rows", "events", "-e", "kvm_pio", "--reason", "io"],
            "out.csv",
            "--reason",
        ),
        (
            &["k.data"],
            "out.csv",
            "to read a recording, use `-i k.data`",
        ),
    ] {
        let out = folder.file(name);
        let output = run(&[&["convert"], arguments].concat(), &path, &out)?;
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?} {name}: {messages}"
        );
        assert!(
            messages.contains(expected),
            "{arguments:?} {name}: {messages}"
        );
        assert!(!out.exists(), "{name}");
    }
    let names = [
        "a.pftrace",
        "a.perfetto-trace",
        "a.parquet",
        "a.csv",
        "a.json",
        "a.TXT",
        "a.html",
    ];
    for name in names {
        let messages = convert(&[], &path, &folder.file(name))?;
        let summary = messages.lines().filter(|it| it.contains(" read, "));
        assert_eq!(summary.count(), 1, "{name}: {messages}");
    }
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
    let recording = path.to_string_lossy();
    let messages = run_failing(&["csv", "--loss", &recording], &path, &folder.file("out"))?;
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
