//! Threads that end and vCPUs that move between threads.

use kvm_collector::{
    model::{self, StreamItem},
    timing::{Replay, ReplayOptions, TimingRequest},
    tracefs::Format,
};

use super::{USERSPACE_EXIT, counts, default_options, event, exit, exit_of_vcpu, feed};
use crate::{
    event::{CountMode, EventType},
    feeder::{Feeder, format},
    read,
};

#[test]
fn a_reused_thread_id_is_a_new_thread() {
    let events = [
        event(10, 0, 1, exit(1)),
        event(15, 0, 1, EventType::ThreadEnd),
        // A new thread has no state of the former one.
        event(20, 0, 1, EventType::Entry),
        event(30, 0, 1, exit(1)),
        event(35, 0, 1, EventType::Entry),
    ];
    let (_, rows) = feed(default_options(), &events);
    // The vCPU has run again. So the first exit has ended, at an unknown time.
    assert_eq!(counts(&rows), [(0, 1, 1, 0), (1, 1, 0, 0)]);
    // The end of the former thread is missing, but the id now belongs to another process.
    let mut events = [
        event(10, 0, 1, exit(1)),
        event(30, 0, 1, exit(1)),
        event(35, 0, 1, EventType::Entry),
    ];
    events[1].tgid = 2;
    events[2].tgid = 2;
    let (_, rows) = feed(default_options(), &events);
    assert_eq!(counts(&rows), [(0, 1, 0, 1), (1, 1, 0, 0)]);
}

/// The format of `kvm_exit` on x86 before Linux 5.10. It has no vCPU index.
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
fn entries_name_the_vcpu_if_exits_do_not() {
    let exit = Format::parse("kvm", OLD_EXIT).expect("a format");
    let entry = format("kvm_entry");
    let formats = [exit.clone(), entry.clone()];
    let options = ReplayOptions::new(TimingRequest::from_formats(&formats), &formats);
    let mut replay = Replay::new(options).expect("all events are there");
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
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            sample_weight: 0,
            raw,
        }));
    }
    let mut vcpus = Vec::new();
    replay.read_exits(&mut |it| vcpus.push((it.vcpu_id.vcpu, it.totals.count)));
    assert_eq!(vcpus, [(5, 2)]);
    // Without capacity for the thread, its exit is counted as lost. So is the entry, which would have told the vCPU of the
    // thread's later exits.
    let options = ReplayOptions {
        max_threads: 0,
        ..ReplayOptions::new(TimingRequest::from_formats(&formats), &formats)
    };
    let mut replay = Replay::new(options).expect("all events are there");
    for (time_ns, slot) in [(1, 0), (2, 1)] {
        replay.add_item(&StreamItem::Event(model::Event {
            slot,
            time_ns,
            cpu: 0,
            tgid: 1,
            tid: 9,
            subject: None,
            named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
            sample_weight: 0,
            raw: steps[slot].1,
        }));
    }
    assert_eq!(replay.read_exits(&mut |_| {}).loss.map_full, 2);
}

#[test]
fn time_of_a_vcpu_that_two_threads_run_in_turn_is_counted_once() {
    let mut events = Vec::new();
    // The threads alternate. When one starts to run the vCPU, the last exit of the other is still open.
    for turn in 0..10u64 {
        let tid = if turn % 2 == 0 { 1 } else { 2 };
        let from = turn * 1000;
        for step in 0..5 {
            let at = from + step * 100;
            events.push(event(at + 10, 0, tid, EventType::Entry));
            events.push(event(at + 50, 0, tid, exit_of_vcpu(0)));
            events.push(event(at + 60, 0, tid, USERSPACE_EXIT));
        }
    }
    let (mut feeder, rows) = feed(default_options(), &events);
    let reading = read(&mut feeder).1;
    let out_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    let other_ns: u64 = reading
        .vcpus
        .iter()
        .map(|it| it.guest_ns + it.open_ns)
        .sum();
    assert!(
        out_ns + other_ns <= reading.time_ns,
        "{out_ns} + {other_ns} of {}",
        reading.time_ns
    );
    let (count, untimed, open) = counts(&rows).iter().fold((0, 0, 0), |sum, it| {
        (sum.0 + it.1, sum.1 + it.2, sum.2 + it.3)
    });
    // Only the last exit can be in progress. Each change of threads leaves one exit without a time.
    assert_eq!((count, untimed, open), (50, 9, 1));
    assert_eq!((reading.loss.moved, reading.loss.unmatched), (9, 0));
}

#[test]
fn a_vcpu_that_many_threads_run_has_one_exit_in_progress() {
    let mut events = Vec::new();
    for tid in 1..=60u32 {
        let at = u64::from(tid) * 1000;
        events.push(event(at, 0, tid, exit_of_vcpu(0)));
        events.push(event(at + 10, 0, tid, USERSPACE_EXIT));
        if tid % 2 == 0 {
            events.push(event(at + 20, 0, tid, EventType::ThreadEnd));
        }
    }
    let (mut feeder, rows) = feed(default_options(), &events);
    let open: u64 = counts(&rows).iter().map(|it| it.3).sum();
    let untimed: u64 = counts(&rows).iter().map(|it| it.2).sum();
    assert_eq!((open, untimed), (1, 59));
    assert_eq!(read(&mut feeder).1.loss.moved, 59);
}

/// If the table of vCPUs is full, entries of ended threads are removed. It is then unknown which thread entered such a vCPU
/// last, so an exit that may have started before another thread ran the vCPU is untimed.
#[test]
fn an_exit_is_untimed_if_the_last_thread_of_its_vcpu_is_unknown() {
    let mut events = vec![
        event(10, 0, 1, exit_of_vcpu(0)),
        event(20, 0, 1, EventType::Entry),
        event(30, 0, 1, exit_of_vcpu(0)),
        event(40, 0, 1, USERSPACE_EXIT),
        // Another thread runs the vCPU, and ends.
        event(50, 0, 2, exit_of_vcpu(0)),
        event(60, 0, 2, EventType::Entry),
        event(70, 0, 2, exit_of_vcpu(0)),
        event(80, 0, 2, USERSPACE_EXIT),
        event(90, 0, 2, EventType::ThreadEnd),
    ];
    // A third thread runs many other vCPUs.
    events.extend((1..100).map(|vcpu| event(100, 0, 3, exit_of_vcpu(vcpu))));
    events.push(event(9_000, 0, 1, EventType::Entry));
    let options = ReplayOptions {
        max_threads: 4,
        ..default_options()
    };
    let (mut feeder, rows) = feed(options, &events);
    let longest = rows.values().map(|it| it.totals.extremes.max_ns).max();
    assert_eq!(longest, Some(10), "{rows:?}");
    let loss = read(&mut feeder).1.loss;
    assert_eq!((loss.moved > 0, loss.map_full), (true, 0));
}

#[test]
fn two_vms_of_one_process_may_use_the_same_vcpu_index() {
    let mut events = Vec::new();
    for step in 0..20u64 {
        let at = step * 100;
        // Each thread is inside KVM_RUN when the other one enters.
        events.push(event(at, 0, 1, EventType::Entry));
        events.push(event(at + 5, 1, 2, exit_of_vcpu(0)));
        events.push(event(at + 20, 1, 2, EventType::Entry));
        events.push(event(at + 50, 0, 1, exit_of_vcpu(0)));
        events.push(event(at + 60, 0, 1, USERSPACE_EXIT));
    }
    let (mut feeder, rows) = feed(default_options(), &events);
    let loss = read(&mut feeder).1.loss;
    assert!(loss.moved <= 1, "{loss:?}");
    let timed: u64 = rows.values().map(|it| it.totals.timed_count()).sum();
    assert!(timed >= 37, "{timed}");
}

/// Returns the guest time of all threads that have run a vCPU.
fn guest_ns(feeder: &mut Feeder, vcpu: u32) -> u64 {
    let reading = read(feeder).1;
    let times = reading.vcpus.iter().filter(|it| it.vcpu_id.vcpu == vcpu);
    times.map(|it| it.guest_ns).sum()
}

#[test]
fn guest_time_of_a_thread_that_runs_two_vcpus_is_split() {
    let mut events = vec![event(5, 0, 1, exit_of_vcpu(0))];
    for step in 0..10u64 {
        let at = 10 + step * 100;
        let vcpu = u32::try_from(step % 2).expect("small");
        events.push(event(at, 0, 1, EventType::Entry));
        events.push(event(at + 40, 0, 1, exit_of_vcpu(vcpu)));
        events.push(event(at + 50, 0, 1, USERSPACE_EXIT));
    }
    let (mut feeder, _) = feed(default_options(), &events);
    assert_eq!(
        (guest_ns(&mut feeder, 0), guest_ns(&mut feeder, 1)),
        (200, 200)
    );
}

/// A thread whose vCPU becomes known when it exits has been in the guest since its entry, although another thread entered the
/// vCPU before.
#[test]
fn guest_time_is_kept_if_another_thread_ran_the_vcpu_before() {
    let mut feeder = Feeder::new(CountMode::Userspace);
    for event in [
        event(10, 0, 1, exit_of_vcpu(5)),
        event(20, 0, 2, exit_of_vcpu(6)),
        event(30, 0, 1, EventType::ThreadEnd),
        event(40, 0, 2, EventType::ThreadEnd),
        // A new thread has the id of the first one. Its first event does not name a vCPU.
        event(50, 0, 1, USERSPACE_EXIT),
        event(60, 0, 1, EventType::Entry),
        event(100, 0, 1, exit_of_vcpu(5)),
    ] {
        feeder.feed(&event);
    }
    assert_eq!(guest_ns(&mut feeder, 5), 40);
}

/// The same if the thread ran another vCPU before: the time since the entry belongs to the vCPU that the exit names.
#[test]
fn guest_time_is_split_if_two_threads_run_the_same_vcpus() {
    let mut events = Vec::new();
    for step in 0..10u64 {
        let at = 1 + step * 1000;
        for (tid, vcpu) in [(1, step % 2), (2, (step + 1) % 2)] {
            let at = at + u64::from(tid) * 100;
            let vcpu = u32::try_from(vcpu).expect("small");
            events.push(event(at, 0, tid, EventType::Entry));
            events.push(event(at + 40, 0, tid, exit_of_vcpu(vcpu)));
            events.push(event(at + 50, 0, tid, USERSPACE_EXIT));
        }
    }
    let (mut feeder, _) = feed(default_options(), &events);
    // The threads are unknown at their first entries.
    assert_eq!(
        (guest_ns(&mut feeder, 0), guest_ns(&mut feeder, 1)),
        (360, 360)
    );
}
