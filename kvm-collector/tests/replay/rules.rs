//! Each rule beyond those of the clock: filters, room, lost events, ends of threads, slow exits.

use std::time::Duration;

use kvm_collector::{
    model,
    model::Whose,
    probe::{Filter, Pairing},
    source::{Replay, ReplayOptions},
    tracefs::Format,
};

use crate::{
    Rows, read,
    stream::{Event, Feeder, Mode, What, format, pairing},
};

fn options() -> ReplayOptions {
    ReplayOptions::new(pairing(Mode::Reason), Some(format("kvm_entry")))
}

fn event(time_ns: u64, cpu: u32, tid: u32, what: What) -> Event {
    Event {
        time_ns,
        cpu,
        tgid: 1,
        tid,
        what,
    }
}

/// Of the thread's own vCPU.
fn exit(tid: u32) -> What {
    What::Exit {
        vcpu: tid,
        code: 0x78,
        rip: 0xfff0,
    }
}

fn feed(options: ReplayOptions, events: &[Event]) -> (Feeder, Rows) {
    let mut feeder = Feeder::with(options);
    events.iter().for_each(|event| feeder.feed(event));
    let (rows, _) = read(&mut feeder);
    (feeder, rows)
}

/// Thread, count, untimed and open of each row.
fn counts(rows: &Rows) -> Vec<(u32, u64, u64, u64)> {
    let count = |(key, got): (&(Whose, _), &crate::Got)| {
        let it = &got.totals;
        (key.0.tid, it.count, it.untimed, it.open)
    };
    rows.iter().map(count).collect()
}

#[test]
fn filters_leave_out_others() {
    let events: Vec<_> = (1..4)
        .flat_map(|tid| [event(10, 0, tid, exit(tid)), event(20, 0, tid, What::Entry)])
        .collect();
    let only = |filter: Filter| {
        let (_, rows) = feed(
            ReplayOptions {
                filter,
                ..options()
            },
            &events,
        );
        counts(&rows).iter().map(|it| it.0).collect::<Vec<_>>()
    };
    let none = Filter::default;
    assert_eq!(only(none()), [1, 2, 3]);
    let tids = vec![2, 3];
    assert_eq!(only(Filter { tids, ..none() }), [2, 3]);
    let vcpus = vec![1, 3];
    assert_eq!(only(Filter { vcpus, ..none() }), [1, 3]);
    let tgids = vec![7];
    assert_eq!(only(Filter { tgids, ..none() }), [0u32; 0]);
}

#[test]
fn what_finds_no_room_is_counted() {
    let events: Vec<_> = (1..4)
        .flat_map(|tid| [event(10, 0, tid, exit(tid)), event(20, 0, tid, What::Entry)])
        .collect();
    let few_rows = ReplayOptions {
        most_rows: 2,
        ..options()
    };
    let (mut feeder, rows) = feed(few_rows, &events);
    assert_eq!(counts(&rows), [(1, 1, 0, 0), (2, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.map_full, 1);
    let few_threads = ReplayOptions {
        most_threads: 1,
        ..options()
    };
    let (mut feeder, rows) = feed(few_threads, &events);
    assert_eq!(counts(&rows), [(1, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.map_full, 2);
}

#[test]
fn what_a_loss_may_reach_has_no_time() {
    let lost = |everywhere| event(15, 1, 0, What::Lost { everywhere });
    // The first is on the CPU before, the second after, the third is not there.
    let events = |lost| {
        let cpus = [(1, 1, 2), (2, 2, 1), (3, 2, 2)];
        let exits = cpus.map(|(tid, before, _)| event(10, before, tid, exit(tid)));
        let entries = cpus.map(|(tid, _, after)| event(20, after, tid, What::Entry));
        [&exits[..], &[lost], &entries].concat()
    };
    let (mut feeder, rows) = feed(options(), &events(lost(false)));
    assert_eq!(counts(&rows), [(1, 1, 1, 0), (2, 1, 1, 0), (3, 1, 0, 0)]);
    let loss = read(&mut feeder).1.loss;
    assert_eq!((loss.lost, loss.unmatched), (1, 2));
    let (_, rows) = feed(options(), &events(lost(true)));
    assert_eq!(counts(&rows), [(1, 1, 1, 0), (2, 1, 1, 0), (3, 1, 1, 0)]);
}

#[test]
fn after_a_loss_nothing_is_known_to_be_open() {
    let lost = event(15, 1, 0, What::Lost { everywhere: true });
    let (mut feeder, rows) = feed(options(), &[event(10, 1, 1, exit(1)), lost]);
    assert_eq!(counts(&rows), [(1, 1, 1, 0)]);
    feeder.feed(&event(1_000_000, 1, 1, What::Entry));
    feeder.feed(&event(1_000_010, 1, 1, exit(1)));
    feeder.feed(&event(1_000_030, 1, 1, What::Entry));
    let (rows, reading) = read(&mut feeder);
    assert_eq!(counts(&rows), [(1, 2, 1, 0)]);
    let total_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    assert_eq!((total_ns, reading.vcpus[0].guest_ns), (20, 10));
}

#[test]
fn a_threads_number_is_used_again() {
    let events = [
        event(10, 0, 1, exit(1)),
        event(15, 0, 1, What::End),
        // Nothing of the one before is left.
        event(20, 0, 1, What::Entry),
        event(30, 0, 1, exit(1)),
        event(35, 0, 1, What::Entry),
    ];
    let (_, rows) = feed(options(), &events);
    assert_eq!(counts(&rows), [(0, 1, 0, 1), (1, 1, 0, 0)]);
    // Its end was not seen, but another process has it now.
    let mut events = [
        event(10, 0, 1, exit(1)),
        event(30, 0, 1, exit(1)),
        event(35, 0, 1, What::Entry),
    ];
    events[1].tgid = 2;
    events[2].tgid = 2;
    let (_, rows) = feed(options(), &events);
    assert_eq!(counts(&rows), [(0, 1, 0, 1), (1, 1, 0, 0)]);
}

#[test]
fn slow_exits_are_told_with_what_they_were_about() {
    let mut options = options();
    options.pairing.slow = Some(Duration::from_nanos(100));
    let pio = What::Pio { port: 0x3f8, rw: 1 };
    let events = [
        event(1000, 0, 1, exit(1)),
        event(1010, 0, 1, pio),
        event(1100, 0, 1, What::Entry),
        event(2000, 0, 1, exit(1)),
        event(2010, 0, 1, pio),
        event(2101, 3, 1, What::Entry),
        // That it halts does not make it slow.
        event(3000, 0, 1, exit(1)),
        event(3500, 0, 1, What::Wakeup { ns: 450 }),
        event(3510, 0, 1, What::Entry),
    ];
    let (mut feeder, _) = feed(options, &events);
    let slow: Vec<_> = feeder.replay.slow_exits().collect();
    assert_eq!(slow.len(), 1);
    let it = &slow[0];
    assert_eq!(
        (it.header.time_ns, it.header.cpu, it.header.tid),
        (2101, 3, 1)
    );
    assert_eq!((it.span.total_ns, it.span.key.code), (101, 0x78));
    assert_eq!(
        (it.cause.code, it.cause.class, it.cause.kind),
        (0x3f8, 1, 1)
    );
    assert_eq!((it.guest_rip, it.vcpu), (0xfff0, 1));
    assert_eq!(feeder.replay.slow_exits().count(), 0);
}

#[test]
fn a_record_that_is_cut_short_is_a_lost_event() {
    let mut feeder = Feeder::with(options());
    feeder.feed(&event(10, 0, 1, exit(1)));
    let role = feeder.replay.role(&format("kvm_exit")).expect("it has one");
    for raw in [&[][..], &[1; 7], &[1; 20]] {
        let event = model::Event {
            slot: 0,
            time_ns: 20,
            cpu: 0,
            tgid: 1,
            tid: 1,
            raw,
        };
        feeder.replay.event(role, &event);
    }
    feeder.feed(&event(30, 0, 1, What::Entry));
    let (rows, reading) = read(&mut feeder);
    assert_eq!(counts(&rows), [(1, 1, 1, 0)]);
    assert_eq!((reading.loss.lost, reading.loss.unmatched), (3, 1));
}

#[test]
fn an_event_at_no_time_is_a_lost_event() {
    let last_ns = (1 << 63) - 1;
    let user = What::User {
        reason: 0,
        errno: 0,
    };
    let read_with_entry_at = |time_ns| {
        let mut feeder = Feeder::with(options());
        feeder.feed(&event(1, 0, 1, exit(1)));
        feeder.feed(&event(3, 0, 1, user));
        feeder.feed(&event(time_ns, 0, 1, What::Entry));
        let (rows, reading) = read(&mut feeder);
        let vmm_ns = rows.values().map(|it| it.totals.vmm_ns).sum::<u64>();
        (counts(&rows), vmm_ns, reading.time_ns, reading.loss.lost)
    };
    let in_time = (vec![(1, 1, 0, 0)], last_ns - 3, last_ns, 0);
    assert_eq!(read_with_entry_at(last_ns), in_time);
    let lost = (vec![(1, 1, 1, 0)], 0, 3, 1);
    assert_eq!(read_with_entry_at(last_ns + 1), lost);
}

/// `kvm_exit` of x86 before Linux 5.10, which does not say which vCPU it is of.
const OLD_EXIT: &str = "name: kvm_exit
ID: 7
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:unsigned int exit_reason;\toffset:8;\tsize:4;\tsigned:0;
\tfield:unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;
\tfield:u32 isa;\toffset:24;\tsize:4;\tsigned:0;
\tfield:u64 info1;\toffset:32;\tsize:8;\tsigned:0;
\tfield:u64 info2;\toffset:40;\tsize:8;\tsigned:0;
";

#[test]
fn entries_say_which_vcpu_where_exits_do_not() {
    let exit = Format::parse("kvm", OLD_EXIT).expect("a format");
    let entry = format("kvm_entry");
    let of_vcpus = |vcpus: Vec<u32>| {
        let pairing = Pairing {
            exit: Some(exit.clone()),
            ..Pairing::default()
        };
        let mut options = ReplayOptions::new(pairing, Some(entry.clone()));
        options.filter.vcpus = vcpus;
        let mut replay = Replay::new(options, 0).expect("all is there");
        let mut raw_entry = vec![0; entry.fixed_size()];
        raw_entry[entry.field("vcpu_id").expect("a field").offset] = 5;
        let raw_exit = vec![0; exit.fixed_size()];
        // The first one is of nobody known.
        let steps = [(&exit, &raw_exit), (&entry, &raw_entry)];
        for (time_ns, (format, raw)) in (1..).zip(steps.iter().cycle().take(4)) {
            let event = model::Event {
                slot: 0,
                time_ns,
                cpu: 0,
                tgid: 1,
                tid: 9,
                raw,
            };
            replay.event(replay.role(format).expect("it has one"), &event);
        }
        let mut vcpus = Vec::new();
        let reading = replay.exits(&mut |it| vcpus.push((it.whose.vcpu, it.totals.count)));
        (vcpus, reading.loss.unattributed)
    };
    assert_eq!(of_vcpus(vec![]), (vec![(5, 2)], 0));
    assert_eq!(of_vcpus(vec![5]), (vec![(5, 1)], 1));
    assert_eq!(of_vcpus(vec![6]), (vec![], 1));
}

#[test]
fn without_an_event_or_a_field_there_is_no_replay() {
    let without = ReplayOptions::new(Pairing::default(), Some(format("kvm_entry")));
    let error = Replay::new(without, 0).expect_err("no kvm_exit");
    assert!(error.to_string().contains("kvm_exit"), "{error}");
}
