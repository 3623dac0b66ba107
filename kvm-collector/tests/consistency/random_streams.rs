//! Random streams of events with losses, thread ends, moved vCPUs and reused thread ids. Totals, lines per exit, the
//! timeline and the trigger agree on them.

use std::{collections::BTreeMap, time::Duration};

use kvm_collector::{
    model::{Event, ExitEnd, Loss, StreamItem, ThreadId, VcpuState},
    timing::{Attribution, ExitTrigger, Filter, Replay, ReplayOptions, Selection, TimingRequest},
    tracefs::Format,
    view::{
        ExitGroups, ExitLineOptions, ExitLines, GroupBy, ItemNames, ReportOrigin, SelectedBy,
        TimePart, Timeline, TraceClock, TraceFormat, TraceLines,
    },
};
use proptest::prelude::*;
use serde_json::Value;

use crate::recording_file::recorded_events;

/// Random numbers from which one item is created.
#[derive(Debug, Clone, Copy)]
struct Seed {
    /// Selects the kind of item and the event.
    choice: u8,
    tid: u32,
    vcpu: u32,
    /// The time since the previous item.
    delay_ns: u64,
    cpu: u32,
    /// The source of field values.
    value: u64,
}

/// An item with its raw record.
struct OwnedItem {
    seed: Seed,
    time_ns: u64,
    slot: usize,
    raw: Vec<u8>,
}

impl OwnedItem {
    fn as_item(&self) -> StreamItem<'_> {
        let (time_ns, cpu) = (self.time_ns, self.seed.cpu);
        let thread = ThreadId {
            tgid: 1 + self.seed.tid / 3,
            tid: self.seed.tid,
        };
        match self.seed.choice {
            0 => StreamItem::Lost {
                slot: None,
                cpu: self.seed.value.is_multiple_of(2).then_some(cpu),
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
                named_vcpu: kvm_ebpf_common::VCPU_UNKNOWN,
                slot: self.slot,
                sample_weight: 0,
                raw: &self.raw,
            }),
        }
    }
}

fn streams() -> impl Strategy<Value = Vec<Seed>> {
    let seed = (
        0u8..40,
        1u32..6,
        0u32..3,
        0u64..5_000,
        0u32..3,
        any::<u64>(),
    );
    let seed = seed.prop_map(|(choice, tid, vcpu, delay_ns, cpu, value)| Seed {
        choice,
        tid,
        // Most threads run a vCPU of their own.
        vcpu: if value % 8 == 0 { vcpu } else { tid },
        delay_ns,
        cpu,
        value,
    });
    prop::collection::vec(seed, 1..200)
}

fn create_items(seeds: &[Seed], formats: &[Format]) -> Vec<OwnedItem> {
    let mut time_ns = 1_000;
    let create_item = |seed: &Seed| {
        time_ns += seed.delay_ns;
        let vcpu = u64::from(seed.vcpu);
        let (name, fields): (_, Vec<(&str, u64)>) = match seed.choice {
            3..15 => (
                "kvm_exit",
                vec![
                    ("vcpu_id", vcpu),
                    ("isa", 2),
                    (
                        "exit_reason",
                        match seed.value % 3 {
                            0 => 0x72,
                            1 => 0x78,
                            _ => 0x7b,
                        },
                    ),
                ],
            ),
            15..27 => ("kvm_entry", vec![("vcpu_id", vcpu)]),
            27..31 => ("kvm_userspace_exit", vec![]),
            31..34 => ("kvm_vcpu_wakeup", vec![("ns", seed.value % 4_000)]),
            34..36 => ("kvm_pio", vec![("port", seed.value % 3)]),
            _ => (
                "sched_switch",
                vec![("prev_state", seed.value % 2), ("next_pid", seed.value % 7)],
            ),
        };
        let slot = formats
            .iter()
            .position(|it| it.name == name)
            .expect("a recorded event");
        let mut raw = vec![0; formats[slot].fixed_size()];
        for (name, value) in fields {
            let field = formats[slot].field(name).expect("a field");
            raw[field.offset..field.offset + field.size]
                .copy_from_slice(&value.to_ne_bytes()[..field.size]);
        }
        OwnedItem {
            seed: *seed,
            time_ns,
            slot,
            raw,
        }
    };
    seeds.iter().map(create_item).collect()
}

/// Returns the request of the trigger. With `preempt`, it is that of lines per exit as JSON, which also have preempted
/// time and causes: with more events, a replay knows better on which CPU a thread was when events were lost.
fn timing_request(formats: &[Format], preempt: bool) -> TimingRequest {
    if preempt {
        TimingRequest::with_causes_from_formats(formats)
    } else {
        TimingRequest::from_formats(formats)
    }
}

/// Reads the exits of a replay by VM, vCPU and reason, and the losses.
fn read_groups(replay: &mut Replay) -> (ExitGroups, Loss) {
    let mut groups = ExitGroups::new(&[GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason], None);
    let reading = replay.read_exits(&mut |exits| groups.add_exits(exits, |_| false));
    groups.add_vcpus(&reading.vcpus);
    (groups, reading.loss)
}

/// Adds all numbers that add up over intervals, by name. Guest time does not quite: an interval includes
/// that of a vCPU in the guest, which becomes unknown if events are lost before the next exit.
fn add_sums(groups: &ExitGroups, sums: &mut BTreeMap<String, u64>) {
    let mut add = |name: String, number: u64| {
        if number > 0 {
            *sums.entry(name).or_default() += number;
        }
    };
    for (key, group) in groups.iter() {
        let totals = &group.totals;
        add(format!("{key:?} count"), totals.count);
        add(format!("{key:?} untimed"), totals.untimed);
        add(format!("{key:?} time"), totals.total_ns);
        add(format!("{key:?} VMM"), totals.vmm_ns);
        add(format!("{key:?} halted"), totals.halted_ns);
        add(format!("{key:?} preempted"), totals.preempted_ns);
        for (bucket, count) in totals.histogram.iter().enumerate() {
            add(format!("{key:?} bucket {bucket}"), *count);
        }
    }
    for (id, times) in groups.vcpus() {
        add(format!("{id:?} exits"), times.exits);
        add(format!("{id:?} kernel"), times.kernel_ns);
    }
}

/// Number and total time of the timed exits, by reason.
type ExitSums = BTreeMap<u64, (u64, u64)>;

proptest! {
    #[test]
    fn all_views_agree(seeds in streams(), slow_ns in 0u64..10_000, preempt in any::<bool>()) {
        let formats = recorded_events().1;
        let options = ReplayOptions::new(timing_request(&formats, preempt), &formats);
        let mut replay = Replay::new(options.clone()).unwrap();
        let mut segment_replay = Replay::new(ReplayOptions { collects_totals: false, ..options }).unwrap();
        segment_replay.log_segments();
        let mut timeline = Timeline::default();
        let line_options = ExitLineOptions { min_ns: 0, per_exit: true, json: true, is_sampled: false };
        let names = ItemNames { comm: "", vcpu: None, vm_name: &|_| Some("vm".into()) };
        let mut exit_lines = ExitLines::new(&formats, line_options, ReportOrigin::new(SelectedBy::default())).unwrap();
        let mut lines = TraceLines::new(formats.len(), TraceFormat::Json, TraceClock::Mono, false);
        let mut trigger = ExitTrigger::new(Duration::from_nanos(slow_ns), &formats).unwrap();
        let (mut out, mut fired, mut slow) = (Vec::new(), 0, 0);
        let (mut by_end, mut segments) = ([0u64; 3], Vec::new());
        for item in &create_items(&seeds, &formats) {
            let item = item.as_item();
            replay.add_item(&item);
            segment_replay.add_item(&item);
            timeline.add_item(&item);
            exit_lines.add_item(&item, true, &formats, names, &mut lines, &mut out).unwrap();
            fired += u64::from(trigger.add_item(&item).is_some());
            segments.extend(segment_replay.drain_segments());
        }
        exit_lines.finish(&mut lines, &mut out).unwrap();
        segment_replay.finish_segments();
        segments.extend(segment_replay.drain_segments());
        for segment in &segments {
            timeline.add_segment(segment);
            if let VcpuState::Exit(exit) = &segment.state {
                by_end[exit.end as usize] += 1;
                let busy_ns = segment.to_ns - segment.from_ns - exit.parts.halted_ns;
                slow += u64::from(exit.end == ExitEnd::Entry && busy_ns > slow_ns);
            }
        }
        let (mut sums, mut parts, mut untimed) = (ExitSums::new(), [0u64; 6], 0);
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
        // Check the lines per exit.
        let mut line_sums = ExitSums::new();
        for line in String::from_utf8(out).unwrap().lines() {
            let exit: Value = serde_json::from_str(line).unwrap();
            if exit.get("lost").is_some() {
                continue;
            }
            let sum = line_sums.entry(exit["reason_code"].as_u64().unwrap()).or_default();
            sum.0 += 1;
            sum.1 += exit["duration_ns"].as_u64().unwrap();
        }
        if preempt {
            prop_assert_eq!(&line_sums, &sums);
            prop_assert_eq!(exit_lines.untimed() + exit_lines.in_progress(), untimed);
            prop_assert_eq!(exit_lines.loss(), reading.loss);
        } else {
            prop_assert_eq!(fired, slow);
        }
        // Check the segments, and the timeline that is built from them.
        prop_assert_eq!(by_end[0], sums.values().map(|it| it.0).sum::<u64>());
        let report = timeline.report(&|_| "".into());
        for part in TimePart::ALL {
            let timeline_ns: u64 = report
                .tracks
                .iter()
                .flat_map(|it| &it.parts_ns[part as usize])
                .sum();
            if part != TimePart::Open {
                prop_assert_eq!(timeline_ns, parts[part as usize], "{}", part.name());
            }
        }
        let exits: u64 = report.tracks.iter().flat_map(|it| &it.exits).sum();
        prop_assert_eq!(exits, by_end.iter().sum::<u64>());
    }

    /// A time range is the sum of the intervals in it. Each thread runs a vCPU of its own here: whether an exit
    /// has moved to another thread may be decided again after the end of an interval.
    #[test]
    fn a_range_is_the_sum_of_its_intervals(seeds in streams(), cuts in prop::array::uniform3(0usize..200), preempt in any::<bool>()) {
        let formats = recorded_events().1;
        let options = ReplayOptions::new(timing_request(&formats, preempt), &formats);
        let seeds: Vec<_> = seeds.iter().map(|seed| Seed { vcpu: seed.tid, ..*seed }).collect();
        let items = create_items(&seeds, &formats);
        let mut cuts = cuts.map(|it| it % items.len());
        cuts.sort_unstable();
        let [from, middle, until] = cuts;
        let mut in_intervals = Replay::new(options.clone()).unwrap();
        let mut in_range = Replay::new(options).unwrap();
        let (mut readings, mut before) = (Vec::new(), None);
        for (index, item) in items.iter().enumerate().take(until + 1) {
            let end_ns = item.time_ns;
            for _ in cuts.iter().filter(|it| **it == index) {
                in_intervals.add_item(&StreamItem::IntervalEnd { end_ns });
                readings.push(read_groups(&mut in_intervals));
            }
            if index == from {
                in_range.add_item(&StreamItem::RangeStart { start_ns: end_ns });
                before = Some(read_groups(&mut in_range).0);
            }
            if index == until {
                in_range.advance(end_ns);
                break;
            }
            in_intervals.add_item(&item.as_item());
            in_range.add_item(&item.as_item());
        }
        let (range, loss) = read_groups(&mut in_range);
        let range = range.since_range_start(&before.unwrap());
        let [first, second, third] = &readings[..] else { panic!("three readings") };
        let mut sums = BTreeMap::new();
        for interval in [second.0.since(&first.0), third.0.since(&second.0)] {
            add_sums(&interval, &mut sums);
        }
        let mut range_sums = BTreeMap::new();
        add_sums(&range, &mut range_sums);
        let names: std::collections::BTreeSet<_> = range_sums.keys().chain(sums.keys()).collect();
        for name in names {
            prop_assert_eq!(range_sums.get(name), sums.get(name), "{} {} {} {}", name, from, middle, until);
        }
        prop_assert_eq!(loss, third.1.since(&first.1));
        // The extremes are those of exits that end in the range.
        for (_, group) in range.iter().filter(|it| it.1.totals.timed_count() > 0) {
            let totals = &group.totals;
            let mean_ns = totals.total_ns / totals.timed_count();
            prop_assert!(totals.extremes.min_ns <= mean_ns && mean_ns <= totals.extremes.max_ns);
            let first = totals.histogram.iter().position(|it| *it > 0).unwrap();
            prop_assert_eq!(kvm_ebpf_common::bucket_index(totals.extremes.min_ns), first);
        }
    }

    /// Compares the selection with a simple model of the eBPF programs, which know only the events so far.
    #[test]
    fn a_stream_is_selected_as_the_programs_select_it(
        seeds in streams(),
        tgids in prop::collection::vec(1u32..4, 0..2),
        tids in prop::collection::vec(1u32..6, 0..2),
        vcpus in prop::collection::vec(0u32..6, 0..2),
    ) {
        let formats = recorded_events().1;
        let filter = Filter { tgids, tids, vcpus, reasons: None };
        let selection = Selection { filter: filter.clone(), ..Selection::default() };
        let selects_all = filter == Filter::default();
        let mut attribution = Attribution::new(formats.iter().map(Some), selection);
        let is_listed = |list: &[u32], id: u32| list.is_empty() || list.contains(&id);
        // The process and the vCPU of each known vCPU thread.
        let mut known_threads: BTreeMap<u32, (u32, Option<u32>)> = BTreeMap::new();
        let mut unattributed = 0;
        for item in &create_items(&seeds, &formats) {
            let StreamItem::Event(event) = item.as_item() else {
                if let StreamItem::ThreadEnd { tid } = item.as_item() {
                    known_threads.remove(&tid);
                    attribution.remove_thread(tid);
                }
                continue;
            };
            let name = formats[event.slot].name.as_str();
            let thread = ThreadId { tgid: event.tgid, tid: event.tid };
            let selects = |thread: ThreadId, vcpu: Option<u32>| {
                is_listed(&filter.tgids, thread.tgid)
                    && is_listed(&filter.tids, thread.tid)
                    && (filter.vcpus.is_empty() || vcpu.is_some_and(|it| filter.vcpus.contains(&it)))
            };
            let named_vcpu = matches!(name, "kvm_exit" | "kvm_entry").then_some(item.seed.vcpu);
            if matches!(name, "kvm_exit" | "kvm_entry" | "kvm_userspace_exit") {
                let entry = known_threads.entry(thread.tid).or_insert((thread.tgid, None));
                if entry.0 != thread.tgid {
                    *entry = (thread.tgid, None);
                }
                entry.1 = named_vcpu.or(entry.1);
            }
            let find_thread =
                |tid: u32| known_threads.get(&tid).map(|it| (ThreadId { tgid: it.0, tid }, it.1));
            let expected = if name == "sched_switch" {
                let next = u32::try_from(item.seed.value % 7).unwrap();
                let candidates = [find_thread(thread.tid).filter(|it| it.0 == thread), find_thread(next)];
                let found = candidates.into_iter().flatten().find(|it| selects(it.0, it.1));
                match found {
                    Some((thread, _)) => Some(Some(thread)),
                    None => selects_all.then_some(None),
                }
            } else {
                let vcpu = named_vcpu.or_else(|| find_thread(thread.tid).filter(|it| it.0 == thread)?.1);
                let is_selected_thread = is_listed(&filter.tgids, thread.tgid) && is_listed(&filter.tids, thread.tid);
                if is_selected_thread && !filter.vcpus.is_empty() && vcpu.is_none() {
                    unattributed += 1;
                }
                selects(thread, vcpu).then_some(Some(thread))
            };
            let attributed = attribution.attribute(event.slot, thread, event.raw, &|_| None, &mut |_| String::new());
            prop_assert_eq!(attributed, expected, "{} in {:?}", name, thread);
        }
        prop_assert_eq!(attribution.unattributed(), unattributed);
    }
}
