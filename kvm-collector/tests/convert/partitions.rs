//! Tables in several files, by day and host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Failed;
use serde_json::json;

use crate::{
    convert, python, run,
    sample_recording::{BOOT_ID, HOST, write_exit_of_host, write_two_days},
    temporary_folder::TemporaryFolder,
};

/// Returns the files in a folder and its folders by their relative paths, in order.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The times of the first row of each day. The first exit that ends is the second one.
const FIRST: &str = "20231114T221320.000002000Z";
const SECOND: &str = "20231115T000000.000001000Z";

pub(crate) fn check_files() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("tables"));
    write_two_days(&path);
    let by_day = |kind: &str| {
        let file = |day, time| format!("dt={day}/host={HOST}/{kind}-{time}.parquet");
        [file("2023-11-14", FIRST), file("2023-11-15", SECOND)]
    };
    let events = by_day("events").map(|it| {
        it.replace(FIRST, "20231114T221320.000001000Z")
            .replace(SECOND, "20231115T000000.000000500Z")
    });
    // Each conversion adds files, and replaces those of the same rows.
    let exits = ["--partition", "dt,host"];
    for arguments in [
        &exits[..],
        &exits,
        &[&exits[..], &["--rows", "events"]].concat(),
    ] {
        let messages = convert(arguments, &path, &out)?;
        assert!(messages.contains(", 2 files, "), "{messages}");
    }
    let mut expected: Vec<_> = by_day("exits").iter().map(|it| out.join(it)).collect();
    expected.extend(events.iter().map(|it| out.join(it)));
    expected.sort();
    assert_eq!(files_in(&out)?, expected);
    let by_host = folder.file("by-host");
    convert(&["--partition", "host"], &path, &by_host)?;
    let expected = format!("host={HOST}/exits-{FIRST}.parquet");
    assert_eq!(files_in(&by_host)?, [by_host.join(expected)]);
    // A conversion that fails leaves no files.
    let failed = folder.file("failed");
    let output = run(
        &["convert", "--partition", "dt", "--vm", "none"],
        &path,
        &failed,
    )?;
    assert_eq!(output.status.code(), Some(2));
    assert!(!failed.exists() || files_in(&failed)?.is_empty());
    Ok(())
}

pub(crate) fn check_errors() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let path = folder.file("kvm.data");
    write_two_days(&path);
    fs::write(folder.file("file"), "")?;
    for (arguments, name, expected) in [
        (&["--partition", "dt"][..], "file", "is not a folder"),
        (
            &["--partition", "dt", "--to", "csv"],
            "out",
            "--partition cannot be used with --to csv",
        ),
        (&["--partition", "day"], "out", "possible values: dt, host"),
    ] {
        let arguments = [&["convert"], arguments].concat();
        let output = run(&arguments, &path, &folder.file(name))?;
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        assert!(messages.contains(expected), "{messages}");
    }
    // A value that is given twice counts once.
    let out = folder.file("out");
    convert(&["--partition", "dt,dt"], &path, &out)?;
    let files = files_in(&out)?;
    let folders = files.iter().filter_map(|it| it.parent()?.parent());
    assert!(
        folders.clone().count() == 2 && folders.clone().all(|it| it == out),
        "{files:?}"
    );
    Ok(())
}

/// A host's name is that of its folder, unless others would not find that name there.
pub(crate) fn check_hosts() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("tables"));
    for (host, expected) in [
        ("a/../b", "host=a%2F..%2Fb"),
        ("..", "host=.."),
        ("", "host=__HIVE_DEFAULT_PARTITION__"),
    ] {
        write_exit_of_host(&path, host);
        convert(&["--partition", "host"], &path, &out)?;
        let files = files_in(&out)?;
        let all: Vec<_> = files.iter().filter_map(|it| it.parent()).collect();
        assert_eq!(all, [out.join(expected)]);
        fs::remove_dir_all(&out)?;
    }
    for (host, expected) in [
        (&*"a".repeat(300), "aaa..., is too long for a folder"),
        ("__HIVE_DEFAULT_PARTITION__", "which means no name"),
    ] {
        write_exit_of_host(&path, host);
        let output = run(&["convert", "--partition", "dt,host"], &path, &out)?;
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{messages}");
        assert!(messages.contains(expected), "{messages}");
        assert!(messages.ends_with(": use --partition dt\n"), "{messages}");
        assert!(!out.exists(), "{messages}");
        convert(&["--partition", "dt"], &path, &out)?;
        fs::remove_dir_all(&out)?;
    }
    Ok(())
}

pub(crate) fn check_duckdb() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("tables"));
    write_two_days(&path);
    convert(&["--partition", "dt,host"], &path, &out)?;
    let files = format!("{}/**/*.parquet", out.display());
    let query = |text: &str| {
        let text = text.replace("FILES", &files);
        python::run_script("convert/run_query.py", &text)
    };
    let rows = query(
        "select dt, host, boot_id, list(reason order by file_row_number), bool_and(strftime(time at time zone 'UTC', '%Y-%m-%d') = dt::varchar) \
         from read_parquet('FILES', hive_partitioning = true, file_row_number = true) group by all order by dt",
    )?;
    let day = |date: &str, reasons: &[&str]| json!([date, HOST, BOOT_ID, reasons, true]);
    let expected = json!([
        // In the order of time, although the first exit ends last.
        day("2023-11-14", &["hlt", "io", "npf"]),
        day("2023-11-15", &["npf", "npf"]),
    ]);
    assert_eq!(rows, expected);
    // The minimum and the maximum of each row group let queries skip it.
    let columns = "('time_ns', 'time', 'vm', 'vcpu', 'reason', 'duration_ns', 'cause')";
    let rows = query(&format!(
        "select count(*), count(coalesce(stats_min_value, stats_min)), count(*) filter (stats_null_count = num_values) \
         from parquet_metadata('FILES') where path_in_schema in {columns}"
    ))?;
    // The second day has no causes.
    assert_eq!(rows, json!([[14, 13, 1]]));
    let rows = query(
        "select count(distinct file_name), count(*) from parquet_kv_metadata('FILES') \
         where key::varchar = 'kvm-collector.loss' and decode(value) like '%\"lost\":0%'",
    )?;
    assert_eq!(rows, json!([[2, 2]]));
    Ok(())
}
