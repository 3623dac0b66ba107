//! The same thing has the same name in every output for programs, and each name stands for one thing with one unit.

mod name_table;
mod perfetto_names;

use std::{collections::BTreeSet, fs};

use kvm_collector::convert::RowType;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use self::name_table::{NAMES, find};
use crate::{
    recording_folder::{recording_folder, run, stdout},
    valid_json::COMMANDS,
};

/// Commands that write CSV.
const CSV_COMMANDS: [&str; 6] = [
    "exits -i lossy.data --csv --by vm,vcpu,reason --percentiles 90,99.9",
    "exits -i kvm.data --csv --kind msr --by vm,reason -I 1s",
    "exits -i kvm.data --csv --baseline before.json",
    "stat -i kvm.data --csv -I 1s --per-vm",
    "convert -i lossy.data --to csv -o -",
    "convert -i lossy.data --to csv --rows events -o -",
];

/// Objects whose members are named by the kernel or by the options of the command line.
const FREE_NAMES: [&str; 2] = ["fields", "selection"];

/// Definitions in the schema that are about neither events nor VMs of the host, or have free names; and the changes of
/// a number, which have the name of the number.
const OTHER_DEFINITIONS: [&str; 7] = [
    "selection",
    "field_value",
    "rate_change",
    "time_change",
    "diagnosis",
    "guest_ready",
    "guest_report",
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("each_name_stands_for_one_thing", check_table),
        Trial::test("names_in_json_are_in_the_table", check_json),
        Trial::test("names_in_csv_are_in_the_table", check_csv),
        Trial::test("names_in_parquet_are_in_the_table", check_parquet),
        Trial::test("names_in_perfetto_traces_are_in_the_table", check_perfetto),
        Trial::test("names_in_the_schema_are_in_the_table", check_schema_names),
        Trial::test("a_slow_exit_is_the_exit_of_the_trace", check_slow_exits),
    ]
}

fn check_table() -> Result<(), Failed> {
    let names: BTreeSet<_> = NAMES.iter().map(|it| it.name).collect();
    let meanings: BTreeSet<_> = NAMES.iter().map(|it| it.meaning).collect();
    match (names.len(), meanings.len()) {
        (all, same) if all == NAMES.len() && same == NAMES.len() => Ok(()),
        _ => Err("a name or a meaning is twice in the table".into()),
    }
}

/// Checks the names and the values of an object, and of all objects in it.
fn check_object(object: &Value) -> Result<(), Failed> {
    for (name, value) in object.as_object().into_iter().flatten() {
        let entry = find(name)?;
        // The changes of a number have the name and the unit of the number.
        if let (Some(before), false) = (value.get("before"), entry.is_group()) {
            for value in [before, &value["now"], &value["change"]] {
                entry.check_type(value)?;
            }
            continue;
        }
        entry.check(value)?;
        if FREE_NAMES.contains(&name.as_str()) {
            continue;
        }
        check_object(value)?;
        for item in value.as_array().into_iter().flatten() {
            check_object(item)?;
        }
    }
    Ok(())
}

fn check_json() -> Result<(), Failed> {
    for command in COMMANDS {
        let args: Vec<_> = command.split(' ').collect();
        for line in stdout(&args, None)?.lines() {
            let object = serde_json::from_str(line)?;
            check_object(&object).map_err(|error| format!("{command}: {}", message(&error)))?;
        }
    }
    Ok(())
}

fn message(error: &Failed) -> &str {
    error.message().unwrap_or_default()
}

/// Returns the name of the number that a column has: some columns have percentiles, or a number before or after a change.
fn name_of_column(column: &str) -> &str {
    let percentile = column
        .strip_prefix('p')
        .and_then(|it| it.strip_suffix("_ns"));
    if percentile.is_some_and(|it| it.parse::<f64>().is_ok()) {
        return "p99_ns";
    }
    let suffixes = ["_before", "_now", "_change"];
    let name = suffixes.iter().find_map(|it| column.strip_suffix(it));
    name.unwrap_or(column)
}

fn check_csv() -> Result<(), Failed> {
    for command in CSV_COMMANDS {
        let args: Vec<_> = command.split(' ').collect();
        let text = stdout(&args, None)?;
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let columns = table.headers()?.clone();
        let names: BTreeSet<_> = columns.iter().collect();
        if names.len() != columns.len() {
            return Err(format!("{command}: a column is there twice: {columns:?}").into());
        }
        for row in table.records() {
            for (column, cell) in columns.iter().zip(&row?) {
                let entry = find(name_of_column(column))?;
                let is_change = column.ends_with("_change");
                let value = entry.value_of_cell(cell)?;
                let checked = match is_change {
                    true => entry.check_type(&value),
                    false => entry.check(&value),
                };
                checked.map_err(|error| format!("{command}: {}", message(&error)))?;
            }
        }
    }
    Ok(())
}

/// Parquet has the columns of CSV.
fn check_parquet() -> Result<(), Failed> {
    for (rows, command) in [
        (RowType::Exits, CSV_COMMANDS[4]),
        (RowType::Events, CSV_COMMANDS[5]),
    ] {
        let columns: Vec<_> = rows.columns().map(|it| it.0).collect();
        for name in &columns {
            find(name)?;
        }
        let text = stdout(&command.split(' ').collect::<Vec<_>>(), None)?;
        if text.lines().next() != Some(&columns.join(",")) {
            return Err(format!("{command}: {columns:?}").into());
        }
    }
    Ok(())
}

fn check_perfetto() -> Result<(), Failed> {
    const FILE: &str = "names.pftrace";
    run(&["convert", "-i", "lossy.data", "-o", FILE], None)?;
    let names = perfetto_names::argument_names(&fs::read(recording_folder().join(FILE))?);
    for name in &names {
        find(name)?;
    }
    for expected in ["reason", "vcpu", "cause_code", "guest_rip", "lost"] {
        if !names.contains(expected) {
            return Err(format!("no {expected} in {names:?}").into());
        }
    }
    Ok(())
}

/// Walks over the schema, which also describes the output of live commands.
fn check_schema_names() -> Result<(), Failed> {
    let schema: Value = serde_json::from_str(include_str!("../../../docs/schema.json"))?;
    let mut used = BTreeSet::new();
    let definitions = schema["$defs"].as_object().ok_or("no definitions")?;
    for (name, definition) in definitions {
        if !OTHER_DEFINITIONS.contains(&name.as_str()) {
            check_definition(definition, &mut used)?;
        }
    }
    let of_tables = [RowType::Exits, RowType::Events].into_iter();
    used.extend(of_tables.flat_map(|it| it.columns().map(|column| column.0.to_owned())));
    match NAMES.iter().find(|it| !used.contains(it.name)) {
        Some(unused) => Err(format!("{} is in no output", unused.name).into()),
        None => Ok(()),
    }
}

fn check_definition(definition: &Value, used: &mut BTreeSet<String>) -> Result<(), Failed> {
    for (name, property) in definition["properties"].as_object().into_iter().flatten() {
        let entry = find(name)?;
        used.insert(name.clone());
        let types = match &property["type"] {
            Value::String(name) => vec![name.as_str()],
            types => types
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
        };
        if types.iter().any(|it| !entry.has_json_type(it)) {
            return Err(format!("{name} is {types:?} in the schema").into());
        }
        check_definition(property, used)?;
    }
    match definition.get("items") {
        Some(items) => check_definition(items, used),
        None => Ok(()),
    }
}

/// The same exits have the same start, duration, parts and names in `exits --slow` and `trace --per-exit`.
fn check_slow_exits() -> Result<(), Failed> {
    let exits = |command: &str| -> Result<Vec<Value>, Failed> {
        let text = stdout(&command.split(' ').collect::<Vec<_>>(), None)?;
        Ok(text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?)
    };
    const SHARED: [&str; 17] = [
        "time_ns",
        "time",
        "host",
        "boot_id",
        "vm",
        "vm_uuid",
        "pid",
        "tid",
        "vcpu",
        "reason",
        "guest_rip",
        "duration_ns",
        "kernel_ns",
        "vmm_ns",
        "halted_ns",
        "idle_ns",
        "cause",
    ];
    let select = |exits: Vec<Value>| -> BTreeSet<String> {
        let row = |exit: &Value| format!("{:?}", SHARED.map(|name| &exit[name]));
        exits.iter().map(row).collect()
    };
    let mut slow = exits("exits -i lossy.data --json --slow 100us")?;
    slow.retain(|it| it["view"] == "slow_exit");
    let all = exits("trace -i lossy.data --json --per-exit")?;
    let (slow, all) = (select(slow), select(all));
    match slow.iter().find(|it| !all.contains(*it)) {
        Some(exit) => Err(format!("not in the trace: {exit}").into()),
        None if slow.is_empty() => Err("no slow exit".into()),
        None => Ok(()),
    }
}
