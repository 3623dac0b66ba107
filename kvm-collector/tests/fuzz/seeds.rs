//! Valid inputs of the targets. Mutations of them reach more code than random bytes do.

use std::fs;

use bytes::BytesMut;
use kvm_ebpf_common::THREAD_END_SLOT;

use crate::{
    raw_record::{RecordHeader, push_record, recorded_events},
    recording_file::{RecordedItem, RecordingFile, VM_A, VM_B, entry, event, exit, switch},
};

/// Lines become words, so that spaces in a seed separate the arguments.
pub(crate) fn arguments() -> Vec<Vec<u8>> {
    let lines = [
        "stat -e kvm_{pio,msr},kvm:* --per-vm -I 100ms -d 1h30m --json",
        "exits --vm web-*,db -p 1,2-4 --vcpu 0-3,8 --tid 7 --reason io,msr --by vm,vcpu,reason",
        "exits -i k.data --from 2026-01-31T10:00:00Z --until 12.5s --slow 1ms --columns reason,count",
        "trace --filter kvm_pio.port==0x3f8 --reason hlt --min-duration 1.5ms --clock mono",
        "record -o x.data --ring 16M --rotate 1G --max-size 10GiB --trigger exit>1ms --queue 64M",
        "convert --to parquet -i k.data -o d --partition dt,host",
        "top -i k.data --speed 2.5 --once --sort time",
        "list reasons -i k.data",
        "guest -k io,cpuid -n 100 --sleep 5ms --vcpus 2",
    ];
    let words = |line: &str| line.replace(' ', "\n").into_bytes();
    lines.into_iter().map(words).collect()
}

pub(crate) fn filter() -> Vec<Vec<u8>> {
    [
        "kvm_pio.port == 0x3f8 && kvm_pio.rw == 1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "port >= 8 || !(rw != 0) && (size & 3)",
        "prev_comm ~ \"CPU*KVM\" && next_pid < 100",
        "((((port))))",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn patterns() -> Vec<Vec<u8>> {
    [
        "kvm:kvm_{exit,pio}\nkvm_*\n[!a-z]*\n**/x?",
        "hlt\nmsr*\n0x7b\nnpf\nio",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn baseline() -> Vec<Vec<u8>> {
    let report = br#"{"view":"exits","schema_version":1,"host":"h","kernel":"6.1","start_ns":1,"end_ns":2000000000,
        "kind":"total","key":["vm","reason"],"rows":[{"vm":"web","pid":7,"vcpu":null,"reason":"io","code":123,"class":2,
        "count":5,"total_ns":1000,"idle_ns":0,"mean_ns":200,"p50_ns":190,"p99_ns":300,"untimed":0,"open":0}],
        "loss":{"lost":0}}"#;
    let one_line = String::from_utf8_lossy(report).replace('\n', "");
    vec![
        one_line.clone().into_bytes(),
        format!("{one_line}\n{one_line}\n").into_bytes(),
    ]
}

pub(crate) fn ring() -> Vec<Vec<u8>> {
    let mut bytes = BytesMut::new();
    for (slot, body) in [
        (0, &[1u8; 40][..]),
        (1, &[2; 24]),
        (THREAD_END_SLOT, b"CPU 0/KVM\0\0\0\0\0\0\0"),
    ] {
        let header = RecordHeader {
            time_ns: 1_000,
            thread: (VM_A, VM_A + 1),
            cpu: 0,
            slot,
            id: 7,
        };
        push_record(&mut bytes, header, body);
    }
    vec![bytes.to_vec()]
}

pub(crate) fn proc_files() -> Vec<Vec<u8>> {
    let files: [&[u8]; 17] = [
        b"qemu-system-x86\n",
        b"qemu-system-x86_64\0-name\0guest=web,,1,debug-threads=on\0-uuid\x005f0c3c9a-5d0e-4b0e-8d5e-0123456789ab\0",
        b"0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt\n",
        b"9 (qemu (x) y) S 1 9 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 2\n",
        b"Name:\tqemu\nNSpid:\t9\t1\n",
        b"CPU 0/KVM\n",
        b"16 0x4 0xae80 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n",
        b"9 (CPU 0/KVM) R 1 9 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1 2\n",
        b"processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: svm npt\n",
        b"MemTotal:       24000000 kB\nMemFree:  1 kB\n",
        b"tracefs /sys/kernel/tracing tracefs rw 0 0\ndebugfs /sys/kernel/debug debugfs rw 0 0\n",
        b"a1f216dc-3014-42eb-8bd4-dc445d1340ba\n",
        b"6.12.0-1-amd64\n",
        b"0-3,8\n",
        b"0-255\n",
        b"none [integrity] confidentiality\n",
        b"1\n",
    ];
    vec![files.join(&0xff)]
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    [
        "7\tweb-1\n8\tdb\n",
        "2888888888\tdb\n8888888\t1\n888888888\tdb\n",
        "CPU 3/KVM\nvcpu3\nfc_vcpu 2\nCPU 4294967296/KVM",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn format() -> Vec<Vec<u8>> {
    let events = [
        "kvm_exit",
        "kvm_pio",
        "kvm_msr",
        "kvm_inj_exception",
        "kvm_mmio",
    ]
    .map(|name| ("kvm", name));
    let (events, formats) = recorded_events(&events);
    let with_record =
        |(text, size): (String, usize)| [text.as_bytes(), &[0], &vec![1; size]].concat();
    let texts = events.into_iter().map(|it| it.format);
    texts
        .zip(formats.iter().map(|it| it.fixed_size()))
        .map(with_record)
        .collect()
}

pub(crate) fn recording() -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    for (round, vm) in (0u64..).zip([VM_A, VM_B, VM_A]) {
        let (at, thread) = (1_000_000 * (round + 1), (vm, vm + 1));
        items.push(entry(at, thread, 0));
        items.push(exit(at + 1_000, thread, 0, 0x7b));
        items.push(event(
            at + 1_500,
            thread,
            "kvm_pio",
            &[("rw", 1), ("port", 0x3f8), ("size", 1), ("count", 1)],
        ));
        items.push(switch(at + 2_000, thread, round % 2 == 0, 5));
        items.push(RecordedItem::Lost {
            time_ns: at + 2_500,
            name: Some("kvm_msr"),
            count: 3,
        });
        items.push(switch(at + 3_000, (0, 5), false, vm + 1));
        items.push(entry(at + 4_000, thread, 0));
    }
    items.push(RecordedItem::ThreadEnd {
        time_ns: 9_000_000,
        thread: (VM_B, VM_B + 1),
    });
    let finished = fs::read(RecordingFile::new(&items).path()).expect("a file");
    // An interrupted recording ends in the middle.
    let interrupted = finished[..finished.len() * 2 / 3].to_vec();
    vec![finished, interrupted]
}
