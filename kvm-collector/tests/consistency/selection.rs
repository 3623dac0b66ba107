//! Selections of VMs, vCPUs and threads.

use serde_json::Value;

use crate::{
    collector::{contended_vms, report},
    recording_file::{OTHER_PROCESS, RecordingFile, VM_A, VM_B},
};

/// Returns the rows of one VM, without the fields that depend on other VMs.
fn vm_rows(report: &Value, pid: u32) -> Vec<Vec<Value>> {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter()
        .filter(|row| row["pid"] == pid)
        .map(|row| {
            let fields = [
                "vcpu",
                "reason",
                "count",
                "total_ns",
                "kernel_ns",
                "vmm_ns",
                "halted_ns",
                "preempted_ns",
                "min_ns",
                "max_ns",
            ];
            fields.map(|field| row[field].clone()).to_vec()
        })
        .collect()
}

#[test]
fn a_selection_does_not_change_the_selected_rows() {
    let file = RecordingFile::new(&contended_vms());
    let base = ["exits", "--preempt", "--by", "vm,vcpu,reason", "--json"];
    let all = report(&file, &base);
    let preempted = |vm: u32| -> u64 {
        let rows = vm_rows(&all, vm);
        rows.iter().filter_map(|row| row[7].as_u64()).sum()
    };
    assert_eq!((preempted(VM_A), preempted(VM_B)), (390_000, 200_000));
    for (vm, vcpu) in [(VM_A, 0), (VM_B, 1)] {
        let selectors = [
            vec!["-p".to_owned(), vm.to_string()],
            vec!["--vcpu".to_owned(), vcpu.to_string()],
            vec!["--tid".to_owned(), (vm + 1).to_string()],
        ];
        for selector in &selectors {
            let selector: Vec<_> = selector.iter().map(String::as_str).collect();
            let selected = report(&file, &[&base[..], &selector].concat());
            assert_eq!(vm_rows(&selected, vm), vm_rows(&all, vm), "{selector:?}");
            assert_eq!(selected["row_count"], 1, "{selector:?}");
            assert_eq!(selected["loss"], all["loss"], "{selector:?}");
        }
    }
}

#[test]
fn a_switch_counts_for_the_vcpu_that_it_concerns() {
    let file = RecordingFile::new(&contended_vms());
    let all = report(&file, &["stat", "--per-vm", "--json"]);
    let switches = |report: &Value, pid: u32| -> u64 {
        let vms = report["vms"].as_array().cloned().unwrap_or_default();
        let vm = vms.iter().find(|vm| vm["pid"] == pid);
        let events = vm.map_or(vec![], |vm| vm["events"].as_array().unwrap().clone());
        let switch = events.iter().find(|it| it["event"] == "sched:sched_switch");
        switch.map_or(0, |it| it["count"].as_u64().unwrap())
    };
    // Each round has four switches. One leaves a vCPU of A, two leave a vCPU of B, and one goes from the third process
    // to B. No switch counts for the third process.
    assert_eq!((switches(&all, VM_A), switches(&all, VM_B)), (10, 30));
    assert_eq!(switches(&all, OTHER_PROCESS), 0);
    // If only one VM is selected, switches from the other VM to it count for it, too.
    for (vm, vcpu, count) in [(VM_A, "0", 20), (VM_B, "1", 40)] {
        let (pid, tid) = (vm.to_string(), (vm + 1).to_string());
        for selector in [["-p", &pid], ["--vcpu", vcpu], ["--tid", &tid]] {
            let args = [&["stat", "--per-vm", "--json"], &selector[..]].concat();
            let report = report(&file, &args);
            assert_eq!(switches(&report, vm), count, "{selector:?}");
            let events = report["events"].as_array().unwrap();
            let switch = events.iter().find(|it| it["event"] == "sched:sched_switch");
            assert_eq!(switch.unwrap()["count"], count, "{selector:?}");
        }
    }
}
