//! Sums, lines per exit, the timeline and the trigger agree on every stream of events, whatever is lost in it and
//! whichever threads end, move or have a number again.

use std::{collections::BTreeMap, time::Duration};

use kvm_collector::{
    model::{Event, ExitEnd, StreamItem, ThreadId, VcpuState},
    timing::{Attribution, ExitTrigger, Filter, Replay, ReplayOptions, Selection, TimingRequest},
    tracefs::Format,
    view::{ExitLineOptions, ExitLines, TimePart, Timeline, TraceClock, TraceFormat, TraceLines},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::file::events;

/// One item, to be made of numbers.
#[derive(Debug, Clone, Copy)]
struct Made {
    what: u8,
    tid: u32,
    vcpu: u32,
    after_ns: u64,
    cpu: u32,
    number: u64,
}

/// An item with its record, which an event only borrows.
struct Stored {
    item: Made,
    time_ns: u64,
    slot: usize,
    raw: Vec<u8>,
}

impl Stored {
    fn item(&self) -> StreamItem<'_> {
        let (time_ns, cpu) = (self.time_ns, self.item.cpu);
        let thread = ThreadId {
            tgid: 1 + self.item.tid / 3,
            tid: self.item.tid,
        };
        match self.item.what {
            0 => StreamItem::Lost {
                slot: None,
                cpu: self.item.number.is_multiple_of(2).then_some(cpu),
                count: 1,
                time_ns,
            },
            1 => StreamItem::ThreadEnd { tid: thread.tid },
            2 => StreamItem::Damaged { time_ns, thread },
            _ => StreamItem::Event(Event {
                time_ns,
                cpu,
                tgid: thread.tgid,
                tid: thread.tid,
                subject: Some(thread),
                slot: self.slot,
                sample_weight: 0,
                raw: &self.raw,
            }),
        }
    }
}

fn streams() -> impl Strategy<Value = Vec<Made>> {
    let made = (
        0u8..40,
        1u32..6,
        0u32..3,
        0u64..5_000,
        0u32..3,
        any::<u64>(),
    );
    let made = made.prop_map(|(what, tid, vcpu, after_ns, cpu, number)| Made {
        what,
        tid,
        // Mostly a vCPU of its own.
        vcpu: if number % 8 == 0 { vcpu } else { tid },
        after_ns,
        cpu,
        number,
    });
    prop::collection::vec(made, 1..200)
}

fn stored(stream: &[Made], formats: &[Format]) -> Vec<Stored> {
    let mut time_ns = 1_000;
    let store = |item: &Made| {
        time_ns += item.after_ns;
        let vcpu = u64::from(item.vcpu);
        let (name, fields): (_, Vec<(&str, u64)>) = match item.what {
            3..15 => (
                "kvm_exit",
                vec![
                    ("vcpu_id", vcpu),
                    ("isa", 2),
                    (
                        "exit_reason",
                        match item.number % 3 {
                            0 => 0x72,
                            1 => 0x78,
                            _ => 0x7b,
                        },
                    ),
                ],
            ),
            15..27 => ("kvm_entry", vec![("vcpu_id", vcpu)]),
            27..31 => ("kvm_userspace_exit", vec![]),
            31..34 => ("kvm_vcpu_wakeup", vec![("ns", item.number % 4_000)]),
            34..36 => ("kvm_pio", vec![("port", item.number % 3)]),
            _ => (
                "sched_switch",
                vec![
                    ("prev_state", item.number % 2),
                    ("next_pid", item.number % 7),
                ],
            ),
        };
        let slot = formats
            .iter()
            .position(|it| it.name == name)
            .expect("one of these");
        let mut raw = vec![0; formats[slot].fixed_size()];
        for (name, value) in fields {
            let field = formats[slot].field(name).expect("a field");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_ne_bytes()[..field.size]);
        }
        Stored {
            item: *item,
            time_ns,
            slot,
            raw,
        }
    };
    stream.iter().map(store).collect()
}

/// As lines per exit and the trigger time exits; with `preempt`, also by `sched_switch`.
fn pairing(formats: &[Format], preempt: bool) -> TimingRequest {
    let switch = formats.iter().find(|it| it.name == "sched_switch");
    TimingRequest {
        switch: switch.filter(|_| preempt).cloned(),
        ..TimingRequest::from_formats(formats)
    }
}

/// How often, how long, and where that time was, by reason.
type Sums = BTreeMap<u64, (u64, u64)>;

proptest! {
    #[test]
    fn all_views_agree(stream in streams(), slow_ns in 0u64..10_000, preempt in any::<bool>()) {
        let formats = events().1;
        let stored = stored(&stream, &formats);
        let options = ReplayOptions::new(pairing(&formats, preempt), &formats);
        let mut replay = Replay::new(options.clone()).unwrap();
        let mut logging = Replay::new(ReplayOptions { collects_totals: false, ..options }).unwrap();
        logging.log_segments();
        let mut timeline = Timeline::default();
        let line_options = ExitLineOptions { min_ns: 0, per_exit: true, json: true, is_sampled: false };
        let mut exit_lines = ExitLines::new(&formats, line_options).unwrap();
        let mut lines = TraceLines::new(formats.len(), TraceFormat::Json, TraceClock::Mono, false);
        let mut trigger = ExitTrigger::new(Duration::from_nanos(slow_ns), &formats).unwrap();
        let (mut out, mut fired, mut slow) = (Vec::new(), 0, 0);
        let (mut by_end, mut segments) = ([0u64; 3], Vec::new());
        for stored in &stored {
            let item = stored.item();
            replay.add_item(&item);
            logging.add_item(&item);
            timeline.add_item(&item);
            exit_lines.add_item(&item, true, &formats, "", &mut lines, &mut out).unwrap();
            fired += u64::from(trigger.add_item(&item));
            segments.extend(logging.drain_segments());
        }
        exit_lines.finish(&formats, &mut lines, &mut out).unwrap();
        logging.finish_segments();
        segments.extend(logging.drain_segments());
        for segment in &segments {
            timeline.add_segment(segment);
            if let VcpuState::Exit(exit) = &segment.state {
                by_end[exit.end as usize] += 1;
                let busy_ns = segment.to_ns - segment.from_ns - exit.parts.halted_ns;
                slow += u64::from(exit.end == ExitEnd::Entry && busy_ns > slow_ns);
            }
        }
        let (mut sums, mut parts, mut untimed) = (Sums::new(), [0u64; 6], 0);
        let reading = replay.read_exits(&mut |it| {
            let sum = sums.entry(it.key.code).or_default();
            sum.0 += it.totals.timed_count();
            sum.1 += it.totals.total_ns;
            untimed += it.totals.untimed + it.totals.open;
            parts[TimePart::Kernel as usize] += it.totals.kernel_ns();
            parts[TimePart::Vmm as usize] += it.totals.vmm_ns;
            parts[TimePart::Halted as usize] += it.totals.halted_ns;
            parts[TimePart::Preempted as usize] += it.totals.preempted_ns;
        });
        parts[TimePart::Guest as usize] = reading.vcpus.iter().map(|it| it.guest_ns).sum();
        sums.retain(|_, it| it.0 > 0);
        // Lines per exit.
        let mut of_lines = Sums::new();
        for line in String::from_utf8(out).unwrap().lines() {
            let exit: Value = serde_json::from_str(line).unwrap();
            if exit.get("lost").is_some() {
                continue;
            }
            let sum = of_lines.entry(exit["reason_code"].as_u64().unwrap()).or_default();
            sum.0 += 1;
            sum.1 += exit["duration_ns"].as_u64().unwrap();
        }
        if !preempt {
            prop_assert_eq!(&of_lines, &sums);
            prop_assert_eq!(exit_lines.untimed() + exit_lines.in_progress(), untimed);
            prop_assert_eq!(exit_lines.loss(), reading.loss);
            prop_assert_eq!(fired, slow);
        }
        // Segments, and the timeline made of them.
        prop_assert_eq!(by_end[0], sums.values().map(|it| it.0).sum::<u64>());
        let report = timeline.report(&|_| String::new());
        for part in TimePart::ALL {
            let of_timeline: u64 = report
                .tracks
                .iter()
                .flat_map(|it| &it.parts_ns[part as usize])
                .sum();
            if part != TimePart::Open {
                prop_assert_eq!(of_timeline, parts[part as usize], "{}", part.name());
            }
        }
        let exits: u64 = report.tracks.iter().flat_map(|it| &it.exits).sum();
        prop_assert_eq!(exits, by_end.iter().sum::<u64>());
    }

    /// What is selected of a stream is what the eBPF programs would have selected of it: step by step, from what they know.
    #[test]
    fn a_selection_of_a_stream_is_that_of_the_programs(
        stream in streams(),
        tgids in prop::collection::vec(1u32..4, 0..2),
        tids in prop::collection::vec(1u32..6, 0..2),
        vcpus in prop::collection::vec(0u32..6, 0..2),
    ) {
        let formats = events().1;
        let stored = stored(&stream, &formats);
        let filter = Filter { tgids, tids, vcpus, reasons: None };
        let selection = Selection { filter: filter.clone(), ..Selection::default() };
        let selects_all = filter == Filter::default();
        let mut attribution = Attribution::new(formats.iter().map(Some), selection);
        let listed = |list: &[u32], id: u32| list.is_empty() || list.contains(&id);
        // As the programs have it: vCPU threads by number, with process and vCPU.
        let mut known: BTreeMap<u32, (u32, Option<u32>)> = BTreeMap::new();
        let mut unattributed = 0;
        for stored in &stored {
            let StreamItem::Event(event) = stored.item() else {
                if let StreamItem::ThreadEnd { tid } = stored.item() {
                    known.remove(&tid);
                    attribution.remove_thread(tid);
                }
                continue;
            };
            let name = formats[event.slot].name.as_str();
            let thread = ThreadId { tgid: event.tgid, tid: event.tid };
            let selects = |thread: ThreadId, vcpu: Option<u32>| {
                listed(&filter.tgids, thread.tgid)
                    && listed(&filter.tids, thread.tid)
                    && (filter.vcpus.is_empty() || vcpu.is_some_and(|it| filter.vcpus.contains(&it)))
            };
            let own = matches!(name, "kvm_exit" | "kvm_entry").then_some(stored.item.vcpu);
            if matches!(name, "kvm_exit" | "kvm_entry" | "kvm_userspace_exit") {
                let entry = known.entry(thread.tid).or_insert((thread.tgid, None));
                if entry.0 != thread.tgid {
                    *entry = (thread.tgid, None);
                }
                entry.1 = own.or(entry.1);
            }
            let of = |tid: u32| known.get(&tid).map(|it| (ThreadId { tgid: it.0, tid }, it.1));
            let expected = if name == "sched_switch" {
                let next = u32::try_from(stored.item.number % 7).unwrap();
                let candidates = [of(thread.tid).filter(|it| it.0 == thread), of(next)];
                let found = candidates.into_iter().flatten().find(|it| selects(it.0, it.1));
                match found {
                    Some((thread, _)) => Some(Some(thread)),
                    None => selects_all.then_some(None),
                }
            } else {
                let vcpu = own.or_else(|| of(thread.tid).filter(|it| it.0 == thread)?.1);
                let in_task = listed(&filter.tgids, thread.tgid) && listed(&filter.tids, thread.tid);
                if in_task && !filter.vcpus.is_empty() && vcpu.is_none() {
                    unattributed += 1;
                }
                selects(thread, vcpu).then_some(Some(thread))
            };
            let got = attribution.attribute(event.slot, thread, event.raw, &|_| None);
            prop_assert_eq!(got, expected, "{} in {:?}", name, thread);
        }
        prop_assert_eq!(attribution.unattributed(), unattributed);
    }
}
