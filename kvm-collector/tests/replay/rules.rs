//! Each rule beyond those of the clock: filters, room, lost events, ends of threads, slow exits.

use std::time::Duration;

use kvm_collector::{
    model::{self, StreamItem, ThreadId, VcpuId},
    timing::{Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};

use crate::{
    Rows, read,
    stream::{self, Event, Feeder, Mode, What, format, pairing},
};

fn options() -> ReplayOptions {
    stream::options(pairing(Mode::Reason))
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
    let count = |(key, got): (&(VcpuId, _), &crate::Got)| {
        let it = &got.totals;
        (key.0.tid, it.count, it.untimed, it.open)
    };
    rows.iter().map(count).collect()
}

#[test]
fn what_finds_no_room_is_counted() {
    let events: Vec<_> = (1..4)
        .flat_map(|tid| [event(10, 0, tid, exit(tid)), event(20, 0, tid, What::Entry)])
        .collect();
    let few_rows = ReplayOptions {
        max_rows: 2,
        ..options()
    };
    let (mut feeder, rows) = feed(few_rows, &events);
    assert_eq!(counts(&rows), [(1, 1, 0, 0), (2, 1, 0, 0)]);
    assert_eq!(read(&mut feeder).1.loss.map_full, 1);
    let few_threads = ReplayOptions {
        max_threads: 1,
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
    assert_eq!(read(&mut feeder).1.loss.unmatched, 2);
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
    // The vCPU has run again, so that first exit is over; when, is not known.
    assert_eq!(counts(&rows), [(0, 1, 1, 0), (1, 1, 0, 0)]);
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
    options.timing.slow_threshold = Some(Duration::from_nanos(100));
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
    let slow: Vec<_> = feeder.replay.drain_slow_exits().collect();
    assert_eq!(slow.len(), 1);
    let it = &slow[0];
    assert_eq!(
        (it.header.time_ns, it.header.cpu, it.header.tid),
        (2101, 3, 1)
    );
    assert_eq!((it.span.total_ns, it.span.key.code), (101, 0x78));
    assert_eq!(
        (it.cause.code, it.cause.subcode, it.cause.kind),
        (0x3f8, 1, 1)
    );
    assert_eq!((it.guest_rip, it.vcpu), (0xfff0, 1));
    assert_eq!(feeder.replay.drain_slow_exits().count(), 0);
}

#[test]
fn a_record_that_is_cut_short_is_damaged() {
    let thread = ThreadId { tgid: 1, tid: 1 };
    for is_told in [false, true] {
        let mut feeder = Feeder::with(options());
        feeder.feed(&event(10, 0, 1, exit(1)));
        for raw in [&[][..], &[1; 7], &[1; 20]] {
            // Whoever decodes events may find it first.
            feeder.replay.add_item(&match is_told {
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
                    sample_weight: 0,
                    raw,
                }),
            });
        }
        feeder.feed(&event(30, 0, 1, What::Entry));
        let (rows, reading) = read(&mut feeder);
        assert_eq!(counts(&rows), [(1, 1, 1, 0)]);
        let damaged = if is_told { 0 } else { 3 };
        assert_eq!((reading.loss.damaged, reading.loss.unmatched), (damaged, 1));
    }
}

#[test]
fn an_event_at_no_time_is_damaged() {
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
        (counts(&rows), vmm_ns, reading.time_ns, reading.loss.damaged)
    };
    let in_time = (vec![(1, 1, 0, 0)], last_ns - 3, last_ns - 1, 0);
    assert_eq!(read_with_entry_at(last_ns), in_time);
    let damaged = (vec![(1, 1, 1, 0)], 0, 2, 1);
    assert_eq!(read_with_entry_at(last_ns + 1), damaged);
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
    let formats = [exit.clone(), entry.clone()];
    let options = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
    let mut replay = Replay::new(options).expect("all is there");
    let mut raw_entry = vec![0; entry.fixed_size()];
    raw_entry[entry.field("vcpu_id").expect("a field").offset] = 5;
    let raw_exit = vec![0; exit.fixed_size()];
    let steps = [(0, &raw_exit), (1, &raw_entry)];
    for (time_ns, (slot, raw)) in (1..).zip(steps.iter().cycle().take(4)) {
        replay.add_item(&StreamItem::Event(model::Event {
            slot: *slot,
            time_ns,
            cpu: 0,
            tgid: 1,
            tid: 9,
            subject: None,
            sample_weight: 0,
            raw,
        }));
    }
    let mut vcpus = Vec::new();
    replay.read_exits(&mut |it| vcpus.push((it.vcpu_id.vcpu, it.totals.count)));
    assert_eq!(vcpus, [(5, 2)]);
    // Without room for the thread, its exit is counted as lost, and the entry that would say the vCPU as well: by it,
    // further exits would be counted.
    let options = ReplayOptions {
        max_threads: 0,
        ..ReplayOptions::new(TimingRequest::from_formats(&formats), &formats)
    };
    let mut replay = Replay::new(options).expect("all is there");
    for (time_ns, slot) in [(1, 0), (2, 1)] {
        replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns,
            cpu: 0,
            tgid: 1,
            tid: 9,
            subject: None,
            sample_weight: 0,
            raw: steps[slot].1,
        }));
    }
    assert_eq!(replay.loss().map_full, 2);
}

#[test]
fn without_an_event_or_a_field_there_is_no_replay() {
    let formats = [format("kvm_entry")];
    let without = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
    let error = Replay::new(without).expect_err("no kvm_exit");
    assert!(error.to_string().contains("kvm_exit"), "{error}");
}

/// A thread that runs vCPU 0, whichever thread it is.
fn exit_of_vcpu(vcpu: u32) -> What {
    What::Exit {
        vcpu,
        code: 0x78,
        rip: 0,
    }
}

const USER: What = What::User {
    reason: 0,
    errno: 0,
};

#[test]
fn a_vcpu_that_two_threads_run_in_turn_is_never_at_two_places() {
    let mut events = Vec::new();
    // Each thread runs it for a while, and then the other one, while the exit of the first is still open.
    for turn in 0..10u64 {
        let tid = if turn % 2 == 0 { 1 } else { 2 };
        let from = turn * 1000;
        for step in 0..5 {
            let at = from + step * 100;
            events.push(event(at + 10, 0, tid, What::Entry));
            events.push(event(at + 50, 0, tid, exit_of_vcpu(0)));
            events.push(event(at + 60, 0, tid, USER));
        }
    }
    let (mut feeder, rows) = feed(options(), &events);
    let reading = read(&mut feeder).1;
    let out_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    let besides_ns: u64 = reading
        .vcpus
        .iter()
        .map(|it| it.guest_ns + it.open_ns)
        .sum();
    assert!(
        out_ns + besides_ns <= reading.time_ns,
        "{out_ns} + {besides_ns} of {}",
        reading.time_ns
    );
    let (count, untimed, open) = counts(&rows).iter().fold((0, 0, 0), |sum, it| {
        (sum.0 + it.1, sum.1 + it.2, sum.2 + it.3)
    });
    // One of all its exits can be in progress; each change of threads leaves one without a time.
    assert_eq!((count, untimed, open), (50, 9, 1));
    assert_eq!((reading.loss.moved, reading.loss.unmatched), (9, 0));
}

#[test]
fn a_vcpu_that_ever_new_threads_run_has_one_exit_in_progress() {
    let mut events = Vec::new();
    for tid in 1..=60u32 {
        let at = u64::from(tid) * 1000;
        events.push(event(at, 0, tid, exit_of_vcpu(0)));
        events.push(event(at + 10, 0, tid, USER));
        if tid % 2 == 0 {
            events.push(event(at + 20, 0, tid, What::End));
        }
    }
    let (mut feeder, rows) = feed(options(), &events);
    let open: u64 = counts(&rows).iter().map(|it| it.3).sum();
    let untimed: u64 = counts(&rows).iter().map(|it| it.2).sum();
    assert_eq!((open, untimed), (1, 59));
    assert_eq!(read(&mut feeder).1.loss.moved, 59);
}

/// Who entered a vCPU last is forgotten where there are too many who have ended. An exit that may reach across has no
/// time then.
#[test]
fn a_vcpu_that_moved_and_was_forgotten_is_still_at_one_place() {
    let mut events = vec![
        event(10, 0, 1, exit_of_vcpu(0)),
        event(20, 0, 1, What::Entry),
        event(30, 0, 1, exit_of_vcpu(0)),
        event(40, 0, 1, USER),
        // Another thread runs the vCPU, and ends.
        event(50, 0, 2, exit_of_vcpu(0)),
        event(60, 0, 2, What::Entry),
        event(70, 0, 2, exit_of_vcpu(0)),
        event(80, 0, 2, USER),
        event(90, 0, 2, What::End),
    ];
    // One thread that runs others.
    events.extend((1..100).map(|vcpu| event(100, 0, 3, exit_of_vcpu(vcpu))));
    events.push(event(9_000, 0, 1, What::Entry));
    let few = ReplayOptions {
        max_threads: 4,
        ..options()
    };
    let (mut feeder, rows) = feed(few, &events);
    let longest = rows.values().map(|it| it.totals.extremes.max_ns).max();
    assert_eq!(longest, Some(10), "{rows:?}");
    let loss = read(&mut feeder).1.loss;
    assert_eq!((loss.moved > 0, loss.map_full), (true, 0));
}

#[test]
fn two_vms_of_one_process_may_have_the_same_vcpu_index() {
    let mut events = Vec::new();
    for step in 0..20u64 {
        let at = step * 100;
        // The second one is inside KVM_RUN when the first one enters, and the other way round.
        events.push(event(at, 0, 1, What::Entry));
        events.push(event(at + 5, 1, 2, exit_of_vcpu(0)));
        events.push(event(at + 20, 1, 2, What::Entry));
        events.push(event(at + 50, 0, 1, exit_of_vcpu(0)));
        events.push(event(at + 60, 0, 1, USER));
    }
    let (mut feeder, rows) = feed(options(), &events);
    let loss = read(&mut feeder).1.loss;
    assert!(loss.moved <= 1, "{loss:?}");
    let timed: u64 = rows.values().map(|it| it.totals.timed_count()).sum();
    assert!(timed >= 37, "{timed}");
}

#[test]
fn a_thread_that_runs_two_vcpus_gives_each_its_time_in_the_guest() {
    let mut events = vec![event(5, 0, 1, exit_of_vcpu(0))];
    for step in 0..10u64 {
        let at = 10 + step * 100;
        let vcpu = u32::try_from(step % 2).expect("small");
        events.push(event(at, 0, 1, What::Entry));
        events.push(event(at + 40, 0, 1, exit_of_vcpu(vcpu)));
        events.push(event(at + 50, 0, 1, USER));
    }
    let (mut feeder, _) = feed(options(), &events);
    let reading = read(&mut feeder).1;
    let guest_ns = |vcpu| -> u64 {
        let of_vcpu = reading.vcpus.iter().filter(|it| it.vcpu_id.vcpu == vcpu);
        of_vcpu.map(|it| it.guest_ns).sum()
    };
    assert_eq!((guest_ns(0), guest_ns(1)), (200, 200));
}

#[test]
fn a_sample_of_events_is_counted_and_not_timed() {
    let options = ReplayOptions {
        is_sampled: true,
        ..options()
    };
    let mut feeder = Feeder::with(options);
    let raw_of = |name: &str| vec![0; format(name).fixed_size()];
    for (time_ns, (slot, raw)) in (1..).zip([(0, raw_of("kvm_exit")), (1, raw_of("kvm_entry"))]) {
        feeder.replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns,
            cpu: 0,
            tgid: 1,
            tid: 1,
            subject: None,
            sample_weight: 300,
            raw: &raw,
        }));
    }
    let (rows, reading) = read(&mut feeder);
    assert_eq!(counts(&rows), [(1, 300, 300, 0)]);
    assert_eq!(reading.vcpus[0].guest_ns, 0);
}
