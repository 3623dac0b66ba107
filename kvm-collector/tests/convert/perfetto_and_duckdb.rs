//! Files for Perfetto and DuckDB, read with their Python packages.

use std::{collections::BTreeMap, fs};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::temporary_folder::TemporaryFolder;
use crate::{
    convert, python, run,
    sample_recording::{
        BOOT_ID, HOST, KERNEL, START_NS, TGID, VM_UUID, write_many_exits,
        write_one_exit_of_each_kind,
    },
};

pub(crate) fn check_perfetto_slices() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("kvm.pftrace"));
    write_one_exit_of_each_kind(&path);
    convert(&["--to", "perfetto"], &path, &out)?;
    let trace = python::run_script("convert/read_trace.py", &out.to_string_lossy())?;
    assert_eq!(trace["clock"], 3, "CLOCK_MONOTONIC");
    let tracks: Vec<_> = trace["tracks"].as_array().into_iter().flatten().collect();
    let tracks_of_kind = |kind: &str| -> Vec<_> {
        let has_kind = |it: &&&Value| it["kind"] == kind;
        tracks
            .iter()
            .filter(has_kind)
            .map(|it| (it["name"].as_str(), it["pid"].as_u64()))
            .collect()
    };
    let pid = Some(u64::from(TGID));
    assert_eq!(tracks_of_kind("process").len(), 1);
    assert_eq!(tracks_of_kind("process")[0].1, pid);
    assert_eq!(
        tracks_of_kind("thread"),
        [(Some("vCPU 0"), pid), (Some("vCPU 1"), pid)]
    );
    assert_eq!(tracks_of_kind("counter").len(), 1);
    assert_eq!(tracks_of_kind("track"), [(Some("lost"), Some(0))]);
    let ns = |it: &Value| it.as_u64().map_or(0, |it| it - START_NS);
    let slices = trace["slices"].as_array().into_iter().flatten().map(|it| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        (
            text("track"),
            text("name"),
            it["depth"].as_u64(),
            ns(&it["from"]),
            ns(&it["to"]),
        )
    });
    let slice = |track: &str, name: &str, depth, from, to| {
        (track.to_owned(), name.to_owned(), Some(depth), from, to)
    };
    assert_eq!(
        slices.collect::<Vec<_>>(),
        [
            slice("vCPU 0", "npf", 0, 2_000, 2_500),
            slice("vCPU 0", "guest", 0, 2_500, 3_000),
            slice("vCPU 0", "io", 0, 3_000, 4_000),
            slice("vCPU 0", "VMM user space", 1, 3_100, 4_000),
            slice("vCPU 0", "preempted", 2, 3_300, 3_600),
            slice("vCPU 0", "guest", 0, 4_000, 5_000),
            slice("vCPU 0", "hlt", 0, 5_000, 6_000),
            slice("vCPU 0", "halted", 1, 5_200, 5_900),
            slice("vCPU 0", "guest", 0, 6_000, 7_000),
            slice("vCPU 0", "guest", 0, 8_000, 9_000),
            slice("vCPU 1", "hlt", 0, 8_100, 9_100),
            slice("vCPU 0", "io", 0, 9_000, 9_100),
            slice("vCPU 0", "guest", 0, 9_100, 9_100),
        ]
    );
    assert_eq!(
        trace["slices"][0]["notes"]["guest_rip"],
        0xffff_ffff_8100_0000 + 2_000u64
    );
    let notes = &trace["slices"][2]["notes"];
    let expected = serde_json::json!({
        "reason": "io",
        "vcpu": 0,
        "cause_kind": "pio",
        "cause_code": 0x3f8,
        "cause": "port 0x3f8 out",
        "cause_name": "COM1 data",
        "guest_rip": 0xffff_ffff_8100_0000 + 3_000u64,
    });
    assert_eq!(notes, &expected);
    assert_eq!(trace["kernel"], KERNEL);
    let labels = serde_json::json!([
        format!("host {HOST}"),
        format!("boot_id {BOOT_ID}"),
        format!("vm_uuid {VM_UUID}")
    ]);
    assert_eq!(process_labels(&trace), labels);
    assert_eq!(trace["slices"][10]["notes"]["is_open"], true);
    let instants = &trace["instants"];
    assert_eq!(instants[0]["name"], "npf");
    assert_eq!(instants[0]["notes"]["is_untimed"], true);
    assert_eq!(instants[1]["name"], "lost kvm:kvm_exit");
    assert_eq!(instants[1]["notes"]["lost"], 42);
    assert_eq!(ns(&instants[1]["at"]), 7_500);
    assert_eq!(instants[2]["name"], "incomplete recording");
    assert_eq!(instants[2]["notes"]["unmatched"], 1);
    Ok(())
}

/// Returns the labels of the first process.
fn process_labels(trace: &Value) -> Value {
    let tracks = trace["tracks"].as_array();
    let process = tracks
        .into_iter()
        .flatten()
        .find(|it| it["kind"] == "process");
    process.map_or(Value::Null, |it| it["labels"].clone())
}

pub(crate) fn check_perfetto_counts() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("kvm.pftrace"));
    write_many_exits(&path, 25_000);
    convert(&["--to", "perfetto"], &path, &out)?;
    let trace = python::run_script("convert/read_trace.py", &out.to_string_lossy())?;
    let counts = trace["counts"].as_array().into_iter().flatten();
    // The recording has one exit per us for 25 ms. Exits without an entry end at the next exit.
    let counts: Vec<_> = counts.map(|it| it["value"].as_u64().unwrap_or(0)).collect();
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>() / 100, 25_000, "{counts:?}");
    assert!((999_000..=1_001_000).contains(&counts[0]), "{counts:?}");
    let slices = trace["slices"].as_array().into_iter().flatten();
    assert!(slices.count() > 49_000);
    Ok(())
}

pub(crate) fn check_duckdb_exits() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("exits.parquet"));
    write_many_exits(&path, 300_000);
    convert(&["--to", "parquet"], &path, &out)?;
    let from = format!("from '{}'", out.display());
    let json = folder.file("exits.json");
    let output = run(&["exits", "--json", "--preempt"], &path, &json)?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let rows = python::run_script(
        "convert/run_query.py",
        &format!(
            "select reason, count(*), sum(duration_ns), sum(vmm_ns), sum(halted_ns), sum(kernel_ns), sum(idle_ns), min(duration_ns), \
             max(duration_ns), count(*) filter (is_untimed or is_open) {from} group by reason"
        ),
    )?;
    let rows: BTreeMap<String, Vec<String>> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let cell = |it: &Value| {
                it.as_str()
                    .map_or_else(|| it.to_string(), ToOwned::to_owned)
            };
            let cells: Vec<_> = row.as_array().into_iter().flatten().map(cell).collect();
            (cells[0].clone(), cells[1..].to_vec())
        })
        .collect();
    let expected: BTreeMap<String, Vec<String>> = report["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let keys = [
                "count",
                "total_ns",
                "vmm_ns",
                "halted_ns",
                "kernel_ns",
                "idle_ns",
                "min_ns",
                "max_ns",
            ];
            let mut cells: Vec<_> = keys.map(|key| row[key].to_string()).into();
            let number = |key: &str| row[key].as_u64().unwrap_or(0);
            cells.push((number("open") + number("untimed")).to_string());
            (row["reason"].as_str().unwrap_or_default().to_owned(), cells)
        })
        .collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows, expected);
    let types = python::run_script("convert/run_query.py", &format!("describe select * {from}"))?;
    let types: BTreeMap<_, _> = types
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| Some((it[0].as_str()?, it[1].as_str()?)))
        .collect();
    assert_eq!(types.len(), 27);
    for (name, kind) in [
        ("time_ns", "BIGINT"),
        ("cpu", "UINTEGER"),
        ("vm", "VARCHAR"),
        ("vm_uuid", "VARCHAR"),
        ("guest_rip", "UBIGINT"),
        ("is_open", "BOOLEAN"),
        ("isa", "VARCHAR"),
        ("cause_code", "UBIGINT"),
        ("cause", "VARCHAR"),
        ("host", "VARCHAR"),
    ] {
        assert_eq!(types[name], kind, "{name}");
    }
    assert!(types["time"].starts_with("TIMESTAMP"), "{types:?}");
    let unknown = format!("select count(*), count(vm_uuid) {from}");
    let unknown = &python::run_script("convert/run_query.py", &unknown)?[0];
    assert_eq!((&unknown[0], &unknown[1]), (&300_000.into(), &0.into()));
    let encodings = format!(
        "select count(*) from parquet_metadata('{}') where path_in_schema = 'vm_uuid' and encodings not like '%DICTIONARY%'",
        out.display()
    );
    let plain = python::run_script("convert/run_query.py", &encodings)?;
    assert_eq!(plain[0][0], 0, "UUIDs repeat");
    let groups = format!(
        "select count(distinct row_group_id) from parquet_metadata('{}')",
        out.display()
    );
    assert_eq!(
        python::run_script("convert/run_query.py", &groups)?[0][0],
        2,
        "rows are written while the recording is read"
    );
    Ok(())
}

pub(crate) fn check_duckdb_events() -> Result<(), Failed> {
    let folder = TemporaryFolder::new();
    let (path, out) = (folder.file("kvm.data"), folder.file("events.parquet"));
    write_one_exit_of_each_kind(&path);
    convert(&["--to", "parquet", "--rows", "events"], &path, &out)?;
    let json = folder.file("stat.json");
    run(&["stat", "--json"], &path, &json)?;
    let report: Value = serde_json::from_slice(&fs::read(&json)?)?;
    let counts = format!(
        "select event, count(*) from '{}' group by event order by event",
        out.display()
    );
    let counts = python::run_script("convert/run_query.py", &counts)?;
    let mut counted: Vec<_> = report["events"].as_array().into_iter().flatten().collect();
    counted.retain(|it| it["count"] != 0);
    counted.sort_by_key(|it| it["event"].as_str().map(ToOwned::to_owned));
    assert_eq!(counted.len(), 6, "{report}");
    for (row, event) in counts.as_array().into_iter().flatten().zip(counted) {
        let name = event["event"].as_str().unwrap_or_default();
        assert_eq!(Some(name), row[0].as_str());
        assert_eq!(event["count"], row[1], "{name}");
    }
    let fields = format!(
        "select text, fields->>'$.exit_reason.name' from '{}' where event = 'kvm:kvm_exit' order by time_ns limit 1",
        out.display()
    );
    let row = &python::run_script("convert/run_query.py", &fields)?[0];
    assert!(
        row[0]
            .as_str()
            .is_some_and(|it| it.starts_with("vcpu 0 reason npf rip ")),
        "{row}"
    );
    assert_eq!(row[1], "npf");
    let hosts = format!(
        "select count(*), count(vcpu), count(*) filter (host = '{HOST}' and boot_id = '{BOOT_ID}' and vm_uuid = '{VM_UUID}') from '{}'",
        out.display()
    );
    let hosts = &python::run_script("convert/run_query.py", &hosts)?[0];
    assert_eq!((&hosts[0], &hosts[0]), (&hosts[1], &hosts[2]));
    let kernel = format!(
        "select value::varchar from parquet_kv_metadata('{}') where key::varchar = 'kvm-collector.kernel'",
        out.display()
    );
    let kernel = python::run_script("convert/run_query.py", &kernel)?;
    assert_eq!(kernel[0][0], KERNEL);
    let metadata = format!(
        "select value::varchar from parquet_kv_metadata('{}') where key::varchar like '%loss%'",
        out.display()
    );
    let metadata = python::run_script("convert/run_query.py", &metadata)?;
    assert!(metadata.to_string().contains("42"), "{metadata}");
    Ok(())
}
