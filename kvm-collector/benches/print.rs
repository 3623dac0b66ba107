//! Benchmark of decoding and printing records: `cargo bench -p kvm-collector --bench print`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvm_collector::tracefs::format::Format;

const EXIT: &str = include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_exit");
const SYNC_PAGE: &str =
    include_str!("../tests/fixtures/formats/6.18-x86_64/kvmmmu/kvm_mmu_sync_page");

/// Field values of a nested page fault on SVM.
const VALUES: [(&str, u64); 7] = [
    ("isa", 2),
    ("exit_reason", 0x400),
    ("guest_rip", 0xffff_ffff_8123_4567),
    ("info1", 0x1_0000_0006),
    ("info2", 0xfee0_00b0),
    ("vcpu_id", 12),
    ("requests", 0x40),
];

fn record(format: &Format) -> Vec<u8> {
    let mut record = vec![0; format.fixed_size()];
    for (name, value) in VALUES {
        if let Some(field) = format.field(name) {
            record[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_le_bytes()[..field.size]);
        }
    }
    record
}

fn print(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format");
    group.throughput(Throughput::Elements(1));
    for (name, text) in [
        ("print kvm_exit", EXIT),
        ("print kvm_mmu_sync_page", SYNC_PAGE),
    ] {
        let format = Format::parse("kvm", text).expect("a format");
        let record = record(&format);
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                format.print(black_box(&record), &mut out);
                out.len()
            });
        });
    }

    let format = Format::parse("kvm", EXIT).expect("a format");
    let record = record(&format);
    let fields = [
        "exit_reason",
        "guest_rip",
        "isa",
        "info1",
        "info2",
        "vcpu_id",
    ]
    .map(|name| format.field(name).expect("a field"));
    group.bench_function("decode 6 fields of kvm_exit", |bencher| {
        bencher.iter(|| fields.map(|field| field.read_u64(black_box(&record))));
    });
    group.bench_function("parse kvm_exit", |bencher| {
        bencher.iter(|| {
            let format = Format::parse("kvm", black_box(EXIT));
            format.map(|it| it.print_warning().is_none())
        })
    });
    group.finish();
}

criterion_group!(benches, print);
criterion_main!(benches);
