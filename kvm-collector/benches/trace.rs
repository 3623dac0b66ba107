//! Benchmark of `trace`, from the bytes of a ring to printed lines: `cargo bench -p kvm-collector --bench trace`.

use std::{hint::black_box, io::Write as _};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvm_collector::{
    model::{Batch, StreamItem},
    source::{LiveContext, OrderedStream},
    timing::Selection,
    tracefs::Format,
    view::{ItemNames, TraceClock, TraceFormat, TraceLines},
};
use kvm_ebpf_common::{RECORD_HEADER_BYTES, RECORD_RAW_OFFSET};

const EXIT: &str = include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_exit");

/// Records per batch.
const RECORDS: usize = 10_000;

/// Returns a batch of `kvm_exit` records in the layout of the rings. Two CPUs alternate.
fn batch(format: &Format) -> Bytes {
    let raw_bytes = format.fixed_size();
    let length = RECORD_RAW_OFFSET + raw_bytes;
    let mut bytes = BytesMut::new();
    for index in 0..RECORDS as u64 {
        let start = bytes.len();
        bytes.extend_from_slice(&(11_906_220_178_000 + index * 700).to_ne_bytes());
        bytes.extend_from_slice(&4242u32.to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(index % 2).expect("0 or 1").to_ne_bytes());
        bytes.extend_from_slice(&u16::try_from(length).expect("short").to_ne_bytes());
        bytes.extend_from_slice(&format.id.to_ne_bytes());
        bytes.extend_from_slice(&0u16.to_ne_bytes());
        bytes.extend_from_slice(&(4243 + u32::try_from(index % 2).expect("0 or 1")).to_ne_bytes());
        assert_eq!(bytes.len() - start, RECORD_HEADER_BYTES);
        bytes.resize(start + length, 0);
        let raw = &mut bytes[start + RECORD_RAW_OFFSET..];
        for (name, value) in [
            ("isa", 2u64),
            ("exit_reason", 0x400),
            ("guest_rip", 0xffff_ffff_8123_4567),
        ] {
            let field = format.field(name).expect("kvm_exit has it");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_ne_bytes()[..field.size]);
        }
    }
    bytes.freeze()
}

fn trace(criterion: &mut Criterion) {
    let formats = vec![Format::parse("kvm", EXIT).expect("a format")];
    let bytes = batch(&formats[0]);
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, format) in [
        ("kvm_exit lines", TraceFormat::Kernel),
        ("kvm_exit fields", TraceFormat::Fields),
        ("kvm_exit json", TraceFormat::Json),
    ] {
        group.bench_function(name, |bencher| {
            let mut lines = TraceLines::new(1, format, TraceClock::Mono, false);
            let mut ordered = OrderedStream::new(&formats, Selection::default());
            let mut out = std::io::BufWriter::with_capacity(64 << 10, std::io::sink());
            bencher.iter(|| {
                ordered.add(Batch::new(bytes.clone()));
                let each = |item: &StreamItem<'_>, context: LiveContext<'_>| match item {
                    StreamItem::Event(event) => {
                        let names = ItemNames {
                            comm: context.comm,
                            vcpu: context.vcpu,
                            vm_name: &|_| Some("web-1".into()),
                        };
                        lines.write_event(event, &formats, names, &mut out)
                    }
                    _ => Ok(()),
                };
                ordered
                    .emit_until(u64::MAX, &|_| None, each)
                    .expect("a sink does not fail");
                out.flush().expect("a sink does not fail");
            });
        });
    }
    group.bench_function("kvm_exit decoded only", |bencher| {
        let fields: Vec<_> = [
            "exit_reason",
            "guest_rip",
            "isa",
            "info1",
            "info2",
            "vcpu_id",
        ]
        .iter()
        .map(|name| formats[0].field(name).expect("kvm_exit has it"))
        .collect();
        let batch = Batch::new(bytes.clone());
        bencher.iter(|| {
            for (_, record) in batch.records() {
                for field in &fields {
                    black_box(field.read_u64(record.raw));
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, trace);
criterion_main!(benches);
