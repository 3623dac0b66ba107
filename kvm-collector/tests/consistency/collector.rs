//! Runs the collector on recordings.

use std::process::{Command, Output};

use serde_json::Value;

use crate::recording_file::{
    OTHER_PROCESS, RecordedItem, RecordingFile, VM_A, VM_B, entry, exit, switch,
};

/// Exit reasons of SVM.
pub(crate) const CPUID: u64 = 0x72;
pub(crate) const HLT: u64 = 0x78;

/// Runs a command on a recording.
pub(crate) fn run(file: &RecordingFile, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .arg("-i")
        .arg(file.path())
        .output()
        .expect("cannot run kvm-collector")
}

/// Runs a command and returns all JSON objects that it prints.
pub(crate) fn reports(file: &RecordingFile, args: &[&str]) -> Vec<Value> {
    let output = run(file, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// Runs a command and returns the single JSON object that it prints.
pub(crate) fn report(file: &RecordingFile, args: &[&str]) -> Value {
    let mut reports = reports(file, args);
    assert_eq!(reports.len(), 1, "{args:?}");
    reports.remove(0)
}

/// Returns the first events of [`contended_vms`], then a loss and the end of a thread.
pub(crate) fn contended_vms_with_loss(events: usize) -> Vec<RecordedItem> {
    let mut items = contended_vms();
    items.truncate(events);
    items.push(RecordedItem::Lost {
        time_ns: 250_000,
        name: None,
        count: 3,
    });
    items.push(RecordedItem::ThreadEnd {
        time_ns: 260_000,
        thread: (VM_A, VM_A + 1),
    });
    items
}

/// Returns the events of two VMs that share one CPU with each other and with a third process.
pub(crate) fn contended_vms() -> Vec<RecordedItem> {
    let (vcpu_a, vcpu_b) = ((VM_A, VM_A + 1), (VM_B, VM_B + 1));
    let other = (OTHER_PROCESS, OTHER_PROCESS);
    let mut items = vec![
        exit(1_000, vcpu_a, 0, CPUID),
        entry(2_000, vcpu_a, 0),
        exit(3_000, vcpu_b, 1, HLT),
        entry(4_000, vcpu_b, 1),
    ];
    for round in 1..=10u64 {
        let at = round * 100_000;
        items.extend([
            exit(at, vcpu_a, 0, CPUID),
            // The CPU goes to the other VM's thread, to the third process and back. Each switch happens in the thread
            // that leaves the CPU, not in the one that gets it.
            switch(at + 1_000, vcpu_a, true, vcpu_b.1),
            exit(at + 2_000, vcpu_b, 1, HLT),
            switch(at + 10_000, vcpu_b, true, other.1),
            switch(at + 30_000, other, false, vcpu_b.1),
            entry(at + 31_000, vcpu_b, 1),
            switch(at + 40_000, vcpu_b, true, vcpu_a.1),
            entry(at + 42_000, vcpu_a, 0),
        ]);
    }
    items
}
