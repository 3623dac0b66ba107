//! Rows of tables have the name of their VM, also if the recording contains it only after them.

use crate::{
    collector::{CPUID, run},
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

#[test]
fn rows_before_the_name_of_their_vm_have_it() {
    let items = [vm_that_ends(VM_A, 1_000), vm_that_ends(VM_B, 5_000_000_000)].concat();
    for file in [
        RecordingFile::unfinished(&items),
        RecordingFile::piped(&items),
    ] {
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
