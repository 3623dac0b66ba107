//! Benchmark of `top` with 200 VMs that have 8 vCPUs each and exit for 20 reasons:
//! `cargo bench -p kvm-collector --bench top`.

#[path = "../tests/common/simulated_host.rs"]
mod simulated_host;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kvm_collector::{
    tui::{self, App},
    view::{GroupBy, ReadingHistory, Scope, TrendMetric, Window},
};
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
};
use simulated_host::{
    CPUID, ExitLoad, HLT, INTERRUPT, IO, MSR, NPF, SimulatedHost, SimulatedVm, draw_text,
    small_host,
};

const SIZE: (u16, u16) = (160, 50);

fn large_host() -> SimulatedHost {
    let others = (0..14).map(|index| ExitLoad {
        code: 0x61 + index,
        per_s: 20 + index,
        mean_ns: 2_000 + 500 * index,
        parts: [0, 0, 0],
    });
    let exits: Vec<_> = [HLT, IO, MSR, NPF, CPUID, INTERRUPT]
        .into_iter()
        .chain(others)
        .collect();
    let vm = |index: u32| SimulatedVm::new(5000 + index, &format!("vm-{index:03}"), 8, &exits);
    SimulatedHost {
        vms: (0..200).map(vm).collect(),
        ..SimulatedHost::default()
    }
}

fn press(app: &mut App, code: KeyCode) {
    app.handle_key(KeyEvent::new(code, KeyModifiers::NONE));
}

fn top(criterion: &mut Criterion) {
    // Check once that the screen shows the VMs.
    assert!(draw_text(&small_host().app_after(2, SIZE), SIZE).contains("web-1"));
    let host = large_host();
    let mut app = host.app_after(3, SIZE);
    let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
    let mut group = criterion.benchmark_group("top");
    group.sample_size(20);

    group.bench_function("draw 160x50 of 200 VMs", |bencher| {
        bencher.iter(|| {
            buffer.reset();
            tui::draw(black_box(&app), &mut buffer);
        });
    });
    group.bench_function("draw the next row", |bencher| {
        bencher.iter(|| {
            press(&mut app, KeyCode::Down);
            buffer.reset();
            tui::draw(&app, &mut buffer);
        });
    });
    group.bench_function("open and close a VM, drawn", |bencher| {
        bencher.iter(|| {
            for code in [KeyCode::Enter, KeyCode::Esc] {
                press(&mut app, code);
                buffer.reset();
                tui::draw(&app, &mut buffer);
            }
        });
    });
    let mut second = 3;
    group.bench_function("add a reading of 32,000 rows", |bencher| {
        bencher.iter_batched(
            || {
                second += 1;
                host.reading(second, Scope::default())
            },
            |reading| app.add_reading(reading),
            BatchSize::PerIteration,
        );
    });
    let mut history = ReadingHistory::default();
    for second in 1..=3 {
        history.add_reading(
            &host.reading(second, Scope::default()),
            simulated_host::SECOND,
        );
    }
    for by in [GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason] {
        let scope = Scope {
            by,
            ..Scope::default()
        };
        group.bench_function(format!("rows by {by:?}"), |bencher| {
            bencher.iter(|| history.rows(&scope, Window::Recent, TrendMetric::Cost));
        });
    }
    group.finish();
}

criterion_group!(benches, top);
criterion_main!(benches);
