//! The UUID of a VM in reports on a recording that has the UUID of one of its VMs.

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::recording_folder::{run, stdout};

const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("json_has_the_uuid_of_a_vm", check_json),
        Trial::test("list_has_the_uuid_of_a_vm", check_list),
        Trial::test("a_vm_is_selected_by_its_uuid", check_selection),
    ]
}

/// Runs a command and returns the objects that it prints.
fn objects(command: &str) -> Result<Vec<Value>, Failed> {
    let args: Vec<_> = command.split(' ').collect();
    let text = stdout(&args, None)?;
    let objects = text.lines().map(serde_json::from_str);
    Ok(objects.collect::<Result<_, _>>()?)
}

/// Checks that each object has the UUID of its VM, or null.
fn check_uuids<'a>(rows: impl IntoIterator<Item = &'a Value>) -> Result<(), Failed> {
    let mut known = [0, 0];
    for row in rows {
        let is_known = row["pid"] == (1 << 30) + 200;
        let expected = if is_known { json!(UUID) } else { Value::Null };
        if row.get("vm_uuid") != Some(&expected) {
            return Err(format!("{expected} expected: {row}").into());
        }
        known[usize::from(is_known)] += 1;
    }
    match known {
        [0, _] | [_, 0] => Err(format!("{known:?} unknown and known UUIDs").into()),
        _ => Ok(()),
    }
}

fn rows<'a>(report: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    report[key].as_array().into_iter().flatten()
}

fn check_json() -> Result<(), Failed> {
    let report = &objects("exits -i kvm.data --json --by vm,vcpu")?[0];
    check_uuids(rows(report, "rows"))?;
    check_uuids(rows(report, "vcpus"))?;
    // Without VMs there is no UUID.
    let report = &objects("exits -i kvm.data --json")?[0];
    assert!(rows(report, "rows").all(|it| it.get("vm_uuid").is_none()));
    let report = &objects("exits -i kvm.data lossy.data --json --by vm")?[0];
    check_uuids(rows(report, "rows"))?;
    check_uuids(rows(
        &objects("stat -i kvm.data --json --per-vm")?[0],
        "vms",
    ))?;
    let report = &objects("stat -i kvm.data lossy.data --json --per-vm")?[0];
    check_uuids(rows(report, "vms"))?;
    check_uuids(&objects("trace -i kvm.data --json --per-exit")?)?;
    let mut slow = objects("exits -i kvm.data --json --slow 100us")?;
    slow.retain(|it| it["view"] == "slow_exit");
    check_uuids(&slow)
}

fn check_list() -> Result<(), Failed> {
    check_uuids(rows(&objects("list vms -i kvm.data --json")?[0], "vms"))?;
    let text = stdout(&["list", "vms", "-i", "kvm.data"], None)?;
    let with_uuid = format!("  web-1-1073742024 (pid 1073742024, uuid {UUID}):");
    assert!(text.lines().any(|it| it.starts_with(&with_uuid)), "{text}");
    assert_eq!(text.matches("uuid").count(), 1, "{text}");
    Ok(())
}

fn check_selection() -> Result<(), Failed> {
    let by_name = &objects("exits -i kvm.data --json --vm web-1-1073742024")?[0]["rows"];
    assert!(by_name[0]["count"].as_u64().is_some_and(|it| it > 0));
    for uuid in [UUID, &UUID.to_uppercase()] {
        let by_uuid = &objects(&format!("exits -i kvm.data --json --vm {uuid}"))?[0]["rows"];
        assert_eq!(by_uuid, by_name);
    }
    let part = &UUID[..8];
    assert!(run(&["exits", "-i", "kvm.data", "--vm", part], None).is_err());
    Ok(())
}
