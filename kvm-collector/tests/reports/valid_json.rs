//! All JSON is valid according to `docs/schema.json`, and each object starts with the version of the schema.

use std::fs;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    recording_folder::{RECORDING, recording_folder, stdout},
    schema::check_schema,
};

pub(crate) const COMMANDS: [&str; 18] = [
    "exits -i kvm.data --json -I 1s",
    "exits -i lossy.data --json --by vm,vcpu,reason --hist --percentiles 50,99.9 --advice --causes 3",
    "exits -i kvm.data --json --kind msr --by vm,reason",
    "exits -i kvm.data --json --slow 100us",
    "exits -i kvm.data --json --baseline before.json",
    "exits -i kvm.data lossy.data --json --by host,vm",
    "exits -i kvm.data --json --from 1s --until 2s --vm web-1* --reason io",
    "stat -i kvm.data --json -I 1s --per-vm",
    "stat -i lossy.data --json -e kvm_exit",
    "trace -i lossy.data --json",
    "trace -i lossy.data --json --per-exit",
    "trace -i kvm.data --json --per-exit -e kvm_pio",
    "convert -i lossy.data --to json -o -",
    "list -i kvm.data --json",
    "list -i kvm.data --json vms",
    "list --json kinds",
    "list -i kvm.data --json reasons",
    "exits -i kvm.data --json --vcpu 0-1 --pid 1073741824",
];

pub(crate) fn tests() -> Vec<Trial> {
    let valid = COMMANDS.iter().map(|command| {
        Trial::test(
            format!("schema_of_{}", command.replace(' ', "_")),
            move || check(command),
        )
    });
    let invalid = Trial::test("schema_refuses_unknown_fields", refuse_unknown_fields);
    let damaged = Trial::test("schema_of_a_damaged_recording", check_damaged);
    valid.chain([invalid, damaged]).collect()
}

fn check(command: &str) -> Result<(), Failed> {
    let args: Vec<_> = command.split(' ').collect();
    let text = stdout(&args, None)?;
    let mut objects = 0;
    for line in text.lines() {
        // Readers of a stream find the version without reading the whole object.
        if !line.starts_with("{\"schema_version\":2,") {
            return Err(format!("no version at the start of {line}").into());
        }
        let object: Value = serde_json::from_str(line)?;
        check_schema(&object)?;
        objects += 1;
    }
    if objects == 0 {
        return Err("no object".into());
    }
    Ok(())
}

/// The last line of a damaged recording says what is missing.
fn check_damaged() -> Result<(), Failed> {
    const DAMAGED: &str = "damaged.data";
    let folder = recording_folder();
    let mut contents = fs::read(folder.join(RECORDING))?;
    contents.truncate(contents.len() * 2 / 3);
    fs::write(folder.join(DAMAGED), contents)?;
    let command = ["convert", "-i", DAMAGED, "--to", "json", "-o", "-"];
    check(&command.join(" "))?;
    let text = stdout(&command, None)?;
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    match last["defect"].is_string() {
        true => Ok(()),
        false => Err(format!("no defect in {last}").into()),
    }
}

fn refuse_unknown_fields() -> Result<(), Failed> {
    let text = stdout(&["stat", "-i", "kvm.data", "--json"], None)?;
    let mut object: Value = serde_json::from_str(&text)?;
    object["loss"]["another"] = 1.into();
    match check_schema(&object) {
        Err(error) if error.contains("another") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}
