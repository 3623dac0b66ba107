//! Exceeded capacities, lost events, damaged records, and events that are missing or sampled.

use kvm_collector::{
    model::{self, StreamItem, ThreadId},
    timing::{Replay, ReplayOptions, TimingRequest},
};

use super::{counts, default_options, event, exit, feed};
use crate::{
    event::EventType,
    feeder::{Feeder, format},
    read,
};

#[test]
fn exits_beyond_the_capacity_are_counted_as_lost() {
    let events: Vec<_> = (1..4)
        .flat_map(|tid| {
            [
                event(10, 0, tid, exit(tid)),
                event(20, 0, tid, EventType::Entry),
            ]
        })
        .collect();
    let few_rows = ReplayOptions {
        max_rows: 2,
        ..default_options()
    };
    let (mut feeder, rows) = feed(few_rows, &events);
    assert_eq!(counts(&rows), [(1, 1, 0, 0), (2, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.map_full, 1);
    let few_threads = ReplayOptions {
        max_threads: 1,
        ..default_options()
    };
    let (mut feeder, rows) = feed(few_threads, &events);
    assert_eq!(counts(&rows), [(1, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.map_full, 2);
}

#[test]
fn exits_that_a_loss_may_affect_are_untimed() {
    let lost = |on_all_cpus| event(15, 1, 0, EventType::Lost { on_all_cpus });
    // Events are lost on CPU 1. The first thread is there before, the second after the loss, the third not at all.
    let events = |lost| {
        let cpus = [(1, 1, 2), (2, 2, 1), (3, 2, 2)];
        let exits = cpus.map(|(tid, before, _)| event(10, before, tid, exit(tid)));
        let entries = cpus.map(|(tid, _, after)| event(20, after, tid, EventType::Entry));
        [&exits[..], &[lost], &entries].concat()
    };
    let (mut feeder, rows) = feed(default_options(), &events(lost(false)));
    assert_eq!(counts(&rows), [(1, 1, 1, 0), (2, 1, 1, 0), (3, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.unmatched, 2);
    let (_, rows) = feed(default_options(), &events(lost(true)));
    assert_eq!(counts(&rows), [(1, 1, 1, 0), (2, 1, 1, 0), (3, 1, 1, 0)]);
}

#[test]
fn no_exit_is_open_after_a_loss() {
    let lost = event(15, 1, 0, EventType::Lost { on_all_cpus: true });
    let (mut feeder, rows) = feed(default_options(), &[event(10, 1, 1, exit(1)), lost]);
    assert_eq!(counts(&rows), [(1, 1, 1, 0)]);
    feeder.feed(&event(1_000_000, 1, 1, EventType::Entry));
    feeder.feed(&event(1_000_010, 1, 1, exit(1)));
    feeder.feed(&event(1_000_030, 1, 1, EventType::Entry));
    let (rows, reading) = read(&mut feeder);
    assert_eq!(counts(&rows), [(1, 2, 1, 0)]);
    let total_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    assert_eq!((total_ns, reading.vcpus[0].guest_ns), (20, 10));
}

#[test]
fn truncated_records_are_damaged() {
    let thread = ThreadId { tgid: 1, tid: 1 };
    for is_marked in [false, true] {
        let mut feeder = Feeder::with_options(default_options());
        feeder.feed(&event(10, 0, 1, exit(1)));
        for raw in [&[][..], &[1; 7], &[1; 20]] {
            // The decoder may have found the damage already, and marked it.
            feeder.replay.add_item(&match is_marked {
                true => StreamItem::Damaged {
                    time_ns: 20,
                    thread,
                },
                false => StreamItem::Event(model::Event {
                    slot: 0,
                    time_ns: 20,
                    cpu: 0,
                    tgid: 1,
                    tid: 1,
                    subject: Some(thread),
                    named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
                    sample_weight: 0,
                    raw,
                }),
            });
        }
        feeder.feed(&event(30, 0, 1, EventType::Entry));
        let (rows, reading) = read(&mut feeder);
        assert_eq!(counts(&rows), [(1, 1, 1, 0)]);
        let damaged = if is_marked { 0 } else { 3 };
        assert_eq!((reading.loss.damaged, reading.loss.unmatched), (damaged, 1));
    }
}

#[test]
fn an_event_with_an_invalid_time_is_damaged() {
    let last_ns = (1 << 63) - 1;
    let user = EventType::UserspaceExit {
        reason: 0,
        errno: 0,
    };
    let read_with_entry_at = |time_ns| {
        let mut feeder = Feeder::with_options(default_options());
        feeder.feed(&event(1, 0, 1, exit(1)));
        feeder.feed(&event(3, 0, 1, user));
        feeder.feed(&event(time_ns, 0, 1, EventType::Entry));
        let (rows, reading) = read(&mut feeder);
        let vmm_ns = rows.values().map(|it| it.totals.vmm_ns).sum::<u64>();
        (counts(&rows), vmm_ns, reading.time_ns, reading.loss.damaged)
    };
    let valid = (vec![(1, 1, 0, 0)], last_ns - 3, last_ns - 1, 0);
    assert_eq!(read_with_entry_at(last_ns), valid);
    let damaged = (vec![(1, 1, 1, 0)], 0, 2, 1);
    assert_eq!(read_with_entry_at(last_ns + 1), damaged);
}

#[test]
fn a_replay_needs_kvm_exit() {
    let formats = [format("kvm_entry")];
    let without_exit = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
    let error = Replay::new(without_exit).expect_err("no kvm_exit");
    assert!(error.to_string().contains("kvm_exit"), "{error}");
}

#[test]
fn a_sample_of_events_is_counted_and_not_timed() {
    let options = ReplayOptions {
        is_sampled: true,
        ..default_options()
    };
    let mut feeder = Feeder::with_options(options);
    let empty_record = |name: &str| vec![0; format(name).fixed_size()];
    for (time_ns, (slot, raw)) in (1..).zip([
        (0, empty_record("kvm_exit")),
        (1, empty_record("kvm_entry")),
    ]) {
        feeder.replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns,
            cpu: 0,
            tgid: 1,
            tid: 1,
            subject: None,
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            sample_weight: 300,
            raw: &raw,
        }));
    }
    let (rows, reading) = read(&mut feeder);
    assert_eq!(counts(&rows), [(1, 300, 300, 0)]);
    assert_eq!(reading.vcpus[0].guest_ns, 0);
}
