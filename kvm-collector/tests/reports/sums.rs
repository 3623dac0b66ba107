//! DuckDB and pandas read CSV and JSON exactly, and sum the intervals to the total.

use std::fs;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::{
    python::{python_test, run_script},
    real_recordings::real_recordings,
    recording_folder::{recording_folder, run, stdout},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        python_test("intervals_add_up_in_duckdb_and_pandas", intervals_add_up),
        python_test(
            "a_table_of_exits_is_exact_in_duckdb_and_pandas",
            table_is_exact,
        ),
        Trial::test(
            "idle_time_is_the_same_for_each_grouping",
            idle_time_is_the_same_for_each_grouping,
        ),
    ]
}

/// The guest of the recording halts in the VMM, which is known only from the exit reason.
fn idle_time_is_the_same_for_each_grouping() -> Result<(), Failed> {
    let [_, recording, ..] = real_recordings();
    let mut of_reasons = None;
    for by in ["reason", "vm", "vcpu", "vm,vcpu,reason"] {
        let args = ["exits", "-i", &recording, "--json", "--by", by];
        let report: Value = serde_json::from_str(&stdout(&args, None)?)?;
        let rows = report["rows"].as_array().ok_or("no rows")?;
        let of_rows: u64 = rows.iter().filter_map(|row| row["idle_ns"].as_u64()).sum();
        let idle_ns = report["idle_ns"].as_u64().ok_or("no idle time")?;
        let expected = *of_reasons.get_or_insert(idle_ns);
        if idle_ns != expected || of_rows != expected || expected == 0 {
            return Err(
                format!("--by {by}: {idle_ns} ns, rows {of_rows} ns, not {expected}").into(),
            );
        }
    }
    Ok(())
}

fn intervals_add_up() -> Result<(), Failed> {
    let folder = recording_folder();
    let write = |name: &str, command: &str| -> Result<(), Failed> {
        let args: Vec<_> = command.split(' ').collect();
        Ok(fs::write(folder.join(name), stdout(&args, None)?)?)
    };
    write(
        "exits.csv",
        "exits -i kvm.data -I 700ms --by vm,vcpu,reason --csv",
    )?;
    write(
        "exits.jsonl",
        "exits -i kvm.data -I 700ms --by vm,vcpu,reason --json",
    )?;
    write("stat.csv", "stat -i kvm.data -I 700ms --per-vm --csv")?;
    write("stat.jsonl", "stat -i kvm.data -I 700ms --json")?;
    let total = |command: &str| -> Result<Value, Failed> {
        let args: Vec<_> = command.split(' ').collect();
        Ok(serde_json::from_str(&stdout(&args, None)?)?)
    };
    let exits = total("exits -i kvm.data --json")?;
    let stat = total("stat -i kvm.data --json")?;
    let events = stat["events"].as_array().ok_or("no events")?;
    let events: u64 = events.iter().filter_map(|it| it["count"].as_u64()).sum();
    let expected = json!({
        "exits": exits["count"],
        "total_ns": exits["total_ns"],
        "events": events,
    });
    let sums = run_script("reports/sum_intervals.py", &folder.to_string_lossy())?;
    for reader in ["duckdb_csv", "pandas_csv", "duckdb_json", "pandas_json"] {
        if sums[reader] != expected {
            return Err(format!("{reader}: {} instead of {expected}", sums[reader]).into());
        }
    }
    // Every CSV cell of these columns is an integer or a time, so no reader converts it to something else.
    for (column, types) in [
        ("count", ["BIGINT", "int64"]),
        ("total_ns", ["BIGINT", "int64"]),
        ("elapsed_ns", ["BIGINT", "int64"]),
        ("pid", ["BIGINT", "int64"]),
        ("start", ["TIMESTAMP WITH TIME ZONE", "datetime64[ns, UTC]"]),
    ] {
        if sums["types"][column] != json!(types) {
            return Err(format!("{column}: {} instead of {types:?}", sums["types"][column]).into());
        }
    }
    Ok(())
}

/// Exits without a time have empty cells, which pandas makes floating-point numbers. These are exact below 2^53. Causes can be any
/// number of 64 bits, so they are text.
fn table_is_exact() -> Result<(), Failed> {
    const TABLE: &str = "exact.csv";
    let [recording, ..] = real_recordings();
    run(&["convert", "-i", &recording, "-o", TABLE], None)?;
    let report: Value =
        serde_json::from_str(&stdout(&["exits", "-i", &recording, "--json"], None)?)?;
    let table = recording_folder().join(TABLE);
    let read = run_script("reports/read_table.py", &table.to_string_lossy())?;
    let expected = json!({
        "duckdb": read["pandas"],
        "pandas": read["pandas"],
        "nulls": read["nulls"],
        "is_exact": true,
        "pandas_types": ["int64"],
        "pandas_nullable_types": ["Int64"],
        "duckdb_types": ["BIGINT"],
        "times": ["datetime64[ns, UTC]", "TIMESTAMP WITH TIME ZONE"],
    });
    let sums = ["count", "total_ns", "idle_ns"].map(|it| &report[it]);
    let is_sum = [0, 2, 7].map(|it| &read["pandas"][it]) == sums;
    let has_nulls = read["nulls"][1].as_u64().is_some_and(|it| it > 0);
    match read == expected && is_sum && has_nulls {
        true => Ok(()),
        false => Err(format!("{read} instead of {expected}, and {sums:?}").into()),
    }
}
