//! Extreme recordings: damaged ones, very long times, and very many threads.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{
    all_views::run_all_views,
    collector::{CPUID, HLT, contended_vms_with_loss, report, run},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit},
};

/// Flips one bit of each byte of the records, one at a time. This changes times, threads and lengths.
#[test]
fn all_views_agree_on_recordings_with_a_flipped_bit() {
    let items = contended_vms_with_loss(24);
    let file = RecordingFile::new(&items);
    let original = std::fs::read(file.path()).expect("a file");
    // Offset and size of the records, from struct perf_file_header.
    let read_number = |at: usize| {
        let number = u64::from_ne_bytes(original[at..at + 8].try_into().unwrap());
        usize::try_from(number).expect("small")
    };
    let (offset, size) = (read_number(40), read_number(48));
    for at in offset..offset + size {
        let mut bytes = original.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(file.path(), &bytes).expect("a file");
        if let Ok(recording) = kvm_collector::source::Recording::open(file.path()) {
            run_all_views(recording);
        }
    }
}

/// Sums the times of three threads. Each time is close to the limit of 2^63 ns, so the sums saturate.
#[test]
fn sums_of_very_long_times_saturate() {
    const KVM_EXIT_HLT: &[(&str, u64)] = &[("reason", 5)];
    let mut items = Vec::new();
    for thread in (1..=3).map(|number| (VM_A, VM_A + number)) {
        let vcpu = u64::from(thread.1 - VM_A);
        items.extend([
            exit(1, thread, vcpu, HLT),
            event(2, thread, "kvm_userspace_exit", KVM_EXIT_HLT),
        ]);
    }
    // Each thread of VM A is in the VMM for nearly all of the time.
    let end = (1 << 63) - 10;
    for thread in (1..=3).map(|number| (VM_A, VM_A + number)) {
        let vcpu = u64::from(thread.1 - VM_A);
        items.push(entry(end, thread, vcpu));
        items.push(exit(end + 1, thread, vcpu, HLT));
        items.push(entry(end + 2, thread, vcpu));
        items.push(RecordedItem::ThreadEnd {
            time_ns: end + 3,
            thread,
        });
    }
    // The three threads of VM B run vCPUs with the same index. They are in the guest for nearly all of the time.
    let threads = (1..=3).map(|number| (VM_B, VM_B + number));
    let mut guest: Vec<_> = threads
        .clone()
        .flat_map(|thread| [exit(3, thread, 0, CPUID), entry(4, thread, 0)])
        .collect();
    for thread in threads {
        guest.push(exit(end, thread, 0, CPUID));
        guest.push(RecordedItem::ThreadEnd {
            time_ns: end + 3,
            thread,
        });
    }
    items.splice(6..6, guest.drain(..6));
    items.extend(guest);
    let file = RecordingFile::new(&items);
    let all = report(&file, &["exits", "--json"]);
    let vcpus = all["vcpus"].as_array().expect("vCPUs");
    let vcpu = vcpus.iter().find(|it| it["pid"] == VM_B);
    assert_eq!(vcpu.expect("a vCPU of VM B")["guest_ns"], u64::MAX);
    assert_eq!(all["total_ns"], u64::MAX);
    assert_eq!(all["idle_ns"], u64::MAX);
    for args in [
        &["exits", "--by", "vm"][..],
        &["exits", "--by", "reason", "--advice", "--causes", "3"],
        &["exits", "--csv"],
        &["exits", "-I", "1s", "--hist", "--json"],
        &["stat", "--per-vm"],
        &["trace", "--per-exit"],
    ] {
        let output = run(&file, args);
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {messages}");
    }
    let out = std::env::temp_dir().join(format!(
        "kvm-collector-consistency-long-{}",
        std::process::id()
    ));
    let out = out.to_str().expect("a name");
    for to in ["csv", "json", "perfetto", "html", "parquet"] {
        let output = run(&file, &["convert", "--to", to, "-o", out]);
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{to}: {messages}");
        let _ = std::fs::remove_file(out);
    }
}

/// Reads recordings with many VMs in limited memory, once with and once without the ends of their threads.
#[test]
fn recordings_of_many_threads_are_read_in_limited_memory() {
    const VMS: u32 = 40_000;
    const MEMORY_LIMIT_KIB: u32 = 350 << 10;
    for has_thread_ends in [true, false] {
        let mut items = Vec::new();
        for number in 0..VMS {
            let (tgid, at) = (VM_A + number, 1_000 + u64::from(number) * 1_000);
            let thread = (tgid, tgid);
            items.extend([
                exit(at, thread, 0, CPUID),
                event(at + 10, thread, "kvm_pio", &[("port", 0x3f8)]),
                entry(at + 100, thread, 0),
            ]);
            if has_thread_ends {
                items.push(RecordedItem::ThreadEnd {
                    time_ns: at + 200,
                    thread,
                });
            }
        }
        let file = RecordingFile::new(&items);
        drop(items);
        for args in [
            &["exits", "--json", "--by", "vm"][..],
            &["stat", "--json", "--per-vm"],
            &["trace", "--per-exit", "--json"],
        ] {
            let output = run_in_limited_memory(MEMORY_LIMIT_KIB, &file, args);
            let messages = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{args:?}: {messages}");
            let text = String::from_utf8(output.stdout).expect("text");
            if args[0] == "trace" {
                assert_eq!(text.lines().count(), VMS as usize);
                continue;
            }
            let report: Value = serde_json::from_str(&text).expect("JSON");
            let loss = &report["loss"];
            if args[0] == "exits" {
                assert_eq!(report["count"], VMS, "{loss}");
                assert_eq!(loss["map_full"], 0);
            } else {
                let vms = report["vms"].as_array().expect("VMs");
                let counts = vms.iter().flat_map(|it| it["events"].as_array().unwrap());
                let count: u64 = counts.map(|it| it["count"].as_u64().unwrap()).sum();
                let lost = loss["lost"].as_u64().expect("a number");
                assert_eq!(count + lost, 3 * u64::from(VMS));
                assert_eq!(lost == 0, has_thread_ends);
            }
        }
    }
}

/// Runs a command with a limit for its data segment and private memory.
fn run_in_limited_memory(limit_kib: u32, file: &RecordingFile, args: &[&str]) -> Output {
    Command::new("sh")
        .args([
            "-c",
            "ulimit -d \"$0\" && exec \"$@\"",
            &limit_kib.to_string(),
        ])
        .arg(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(args)
        .arg("-i")
        .arg(file.path())
        .output()
        .expect("cannot run kvm-collector")
}
