//! Benchmark of the replay with alternating `kvm_exit` and `kvm_entry` events:
//! `cargo bench -p kvm-collector --bench replay`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kvm_collector::{
    model::{Event, EventKind, StreamItem},
    timing::{DetailEvent, Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};

const EXIT: &str = include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_exit");
const ENTRY: &str = include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_entry");
const PIO: &str = include_str!("../tests/fixtures/formats/6.18-x86_64/kvm/kvm_pio");

/// Events per iteration.
const EVENTS: usize = 100_000;

/// Exit reasons of SVM: interrupt, hlt, io, msr, nested page fault.
const REASONS: [u64; 5] = [0x60, 0x78, 0x7b, 0x7c, 0x400];

fn format(text: &str) -> Format {
    Format::parse("kvm", text).expect("a format")
}

/// Returns a record with these field values; other fields are 0.
fn record(format: &Format, values: &[(&str, u64)]) -> Vec<u8> {
    let mut record = vec![0; format.fixed_size()];
    for (name, value) in values {
        let field = format.field(name).expect("a field");
        record[field.offset..field.offset + field.size]
            .copy_from_slice(&value.to_ne_bytes()[..field.size]);
    }
    record
}

fn replay(criterion: &mut Criterion) {
    let (exit, entry, pio) = (format(EXIT), format(ENTRY), format(PIO));
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, threads, has_causes) in [
        ("1 vCPU", 1, false),
        ("64 vCPUs", 64, false),
        ("1000 vCPUs", 1000, false),
        ("64 vCPUs with causes", 64, true),
    ] {
        let detail = || DetailEvent {
            kind: EventKind::from_name("pio").expect("a kind"),
            format: pio.clone(),
        };
        let timing = TimingRequest {
            exit: Some(exit.clone()),
            entry: Some(entry.clone()),
            cause_events: has_causes.then(detail).into_iter().collect(),
            ..TimingRequest::default()
        };
        let formats = [exit.clone(), pio.clone(), entry.clone()];
        let options = ReplayOptions::new(timing, &formats);
        let mut replay = Replay::new(options).expect("all events are there");
        let exits = REASONS.map(|reason| {
            record(
                &exit,
                &[("isa", 2), ("exit_reason", reason), ("vcpu_id", 3)],
            )
        });
        let others = [record(&pio, &[("port", 0x3f8)]), record(&entry, &[])];
        let events_per_exit = if has_causes { 3 } else { 2 };
        let mut time_ns = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for number in 0..EVENTS / events_per_exit {
                    let thread = u32::try_from(number * 7 % threads).expect("few");
                    let raws = [&exits[number % exits.len()], &others[0], &others[1]];
                    for (slot, raw) in raws.into_iter().enumerate() {
                        if slot == 1 && !has_causes {
                            continue;
                        }
                        time_ns += 700;
                        replay.add_item(black_box(&StreamItem::Event(Event {
                            slot,
                            time_ns,
                            cpu: thread % 64,
                            tgid: 4242 + thread / 16,
                            tid: 10_000 + thread,
                            subject: None,
                            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
                            sample_weight: 0,
                            raw,
                        })));
                    }
                }
            });
        });
        let mut count = 0;
        replay.read_exits(&mut |exits| count += exits.totals.count);
        assert!(count > 0);
    }
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
