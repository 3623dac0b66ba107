//! Reports, lines and rows have the name of their VM, also if the recording contains it only after them.

use serde_json::Value;

use crate::{
    collector::{CPUID, reports, run},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, exit},
};

/// The recorder divides a stream into rounds of this length. Readers sort the records of a round.
const ROUND_NS: u64 = 100_000_000;

/// Returns exits of a VM in several rounds. Its name, which could not be read before, is recorded when it ends.
fn vm_that_ends(pid: u32, from_ns: u64) -> Vec<RecordedItem> {
    let thread = (pid, pid);
    let mut items = Vec::new();
    for round in 0..20 {
        let at_ns = from_ns + round * ROUND_NS / 2;
        items.extend([
            exit(at_ns, thread, 0, CPUID),
            entry(at_ns + 1000, thread, 0),
        ]);
    }
    items.push(RecordedItem::ThreadEnd {
        time_ns: from_ns + 10 * ROUND_NS + 1000,
        thread,
    });
    items
}

/// Returns recordings that do not begin with the names of VMs.
fn recordings() -> [RecordingFile; 2] {
    let items = [vm_that_ends(VM_A, 1_000), vm_that_ends(VM_B, 5_000_000_000)].concat();
    [
        RecordingFile::unfinished(&items),
        RecordingFile::piped(&items),
    ]
}

/// Adds all names of VMs in a JSON value, with their pids.
fn add_names(value: &Value, names: &mut Vec<(String, u64)>) {
    if let (Some(vm), Some(pid)) = (value["vm"].as_str(), value["pid"].as_u64()) {
        names.push((vm.to_owned(), pid));
    }
    match value {
        Value::Array(values) => values.iter().for_each(|it| add_names(it, names)),
        Value::Object(fields) => fields.values().for_each(|it| add_names(it, names)),
        _ => {}
    }
}

#[test]
fn reports_before_the_name_of_their_vm_have_it() {
    for file in recordings() {
        for (args, min_count) in [
            ("exits --json -I 100ms --by vm,vcpu,reason", 40),
            ("exits --json --slow 500ns", 40),
            ("stat --json -I 100ms --per-vm", 20),
            ("trace --json", 80),
            ("trace --json --per-exit", 40),
            ("trace --json --per-exit --vm CPU*", 40),
            ("list --json", 2),
        ] {
            let mut names = Vec::new();
            for report in reports(&file, &args.split(' ').collect::<Vec<_>>()) {
                assert!(report["loss"]["unattributed"].as_u64().unwrap_or(0) == 0);
                add_names(&report, &mut names);
            }
            assert!(names.len() >= min_count, "{args}: {}", names.len());
            for (vm, pid) in names {
                assert_eq!(vm, format!("CPU 0/KVM-{pid}"), "{args}");
            }
        }
    }
}

#[test]
fn rows_before_the_name_of_their_vm_have_it() {
    for file in recordings() {
        for rows in ["exits", "events"] {
            let args = ["convert", "--to", "csv", "--rows", rows, "-o", "-"];
            let output = run(&file, &args);
            assert!(output.status.success(), "{output:?}");
            let mut table = csv::Reader::from_reader(&output.stdout[..]);
            let headers = table.headers().expect("a header").clone();
            let column = |name: &str| headers.iter().position(|it| it == name).expect("a column");
            let (vm, pid) = (column("vm"), column("pid"));
            let mut count = 0;
            for row in table.records() {
                let row = row.expect("a row");
                assert_eq!(row[vm], format!("CPU 0/KVM-{}", &row[pid]), "{rows}");
                count += 1;
            }
            assert!(count >= 40, "{count} {rows}");
        }
    }
}
