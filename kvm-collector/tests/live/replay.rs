//! The replay agrees with the eBPF programs: both time the same exits, the programs as they happen and the replay from the
//! events in the rings. Both use the same timestamps, so all numbers are equal.

use std::{collections::BTreeMap, thread, time::Duration};

use kvm_collector::{
    model::{
        Batch, Causes, EventKind, ExitReading, ExitTotals, Loss, MinMax, StreamItem, ThreadExits,
        VMEXIT, VcpuId,
    },
    probe::{MapSizes, Rings},
    source::{Live, LiveOptions, OrderedStream},
    timing::{DetailEvent, Filter, Replay, ReplayOptions, Selection, TimingRequest},
    tracefs::{EventName, Format, Tracefs},
};
use kvm_ebpf_common::{Key, SlowExit};
use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    exits::REQUIREMENTS,
    guest::Guest,
    requirements::test,
};

/// Large enough for all events while this process does not run.
const RING_BYTES: u32 = 64 << 20;

/// Threshold of slow exits. Some exits are slower, others are not. It equals the guest's `--sleep` in these tests.
const SLOW: Duration = Duration::from_micros(100);

/// Kinds of exits of a guest without interrupt controllers in the kernel, and with them.
const WITHOUT_APIC: &str =
    "io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,hypercall,page-fault,cr,wbinvd";
const WITH_APIC: &str = "timer,apic,ipi,io,msr,cpuid,page-fault";

/// All kinds of causes.
const CAUSES: [&str; 6] = ["pio", "mmio", "msr", "cpuid", "hypercall", "page-fault"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("replayed_exits_equal_the_kernels", REQUIREMENTS, || {
            compare_guest(&["-k", WITHOUT_APIC, "-n", "100"], VMEXIT, &CAUSES)
        }),
        test("replayed_halts_equal_the_kernels", REQUIREMENTS, || {
            compare_guest(&["-k", WITH_APIC, "-n", "40"], VMEXIT, &CAUSES)
        }),
        test("replayed_vcpus_equal_the_kernels", REQUIREMENTS, || {
            let sleeping = ["--sleep", "100us", "--vcpus", "2"];
            compare_guest(
                &[&["-k", WITHOUT_APIC, "-n", "50"], &sleeping[..]].concat(),
                VMEXIT,
                &CAUSES,
            )?;
            compare_guest(
                &["-k", WITH_APIC, "-n", "10", "--vcpus", "2"],
                VMEXIT,
                &["rip"],
            )
        }),
        test("replayed_kinds_equal_the_kernels", REQUIREMENTS, || {
            for kind in [
                "pio",
                "mmio",
                "msr",
                "userspace",
                "page-fault",
                "kvm_cpuid.rax",
            ] {
                let args = ["-k", WITHOUT_APIC, "-n", "30", "--vcpus", "2"];
                compare_guest(&args, kind, &["hypercall"])
                    .map_err(|it| format!("{kind}: {}", it.message().unwrap_or_default()))?;
            }
            compare_guest(&["-k", WITH_APIC, "-n", "10"], "userspace", &["msr"])
        }),
    ]
}

/// The exits of one thread with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exits {
    totals: ExitTotals,
    recent: MinMax,
    causes: Causes,
}

/// All that one of the two reports.
#[derive(Debug, Default)]
struct Measured {
    exits: BTreeMap<(VcpuId, Key), Exits>,
    guest_ns: BTreeMap<VcpuId, u64>,
    reading: ExitReading,
    slow: Vec<SlowExit>,
}

impl Measured {
    fn read<E>(
        read_exits: impl FnOnce(&mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, E>,
        mut slow: Vec<SlowExit>,
    ) -> Result<Self, E> {
        slow.sort_by_key(|it| (it.header.time_ns, it.header.tid));
        let mut measured = Self {
            slow,
            ..Self::default()
        };
        let exits = &mut measured.exits;
        measured.reading = read_exits(&mut |it: &ThreadExits<'_>| {
            let row = exits.entry((it.vcpu_id, it.key)).or_insert_with(|| Exits {
                totals: ExitTotals::default(),
                recent: MinMax::NONE,
                causes: Causes::default(),
            });
            row.totals.merge(it.totals);
            row.recent.merge(it.recent);
            if let Some(causes) = it.causes {
                row.causes.merge(causes);
            }
        })?;
        for vcpu in &measured.reading.vcpus {
            *measured.guest_ns.entry(vcpu.vcpu_id).or_default() += vcpu.guest_ns;
        }
        Ok(measured)
    }
}

/// Runs a guest. Compares what the eBPF programs and the replay report of it.
fn compare_guest(guest: &[&str], kind: &str, causes: &[&str]) -> Result<(), Failed> {
    let tracefs = Tracefs::find_or_mount()?;
    let timing = || timing_request(&tracefs, kind, causes);
    let entry = format(&tracefs, "kvm_entry")?;
    let events = events(&timing()?, &entry);
    let guest = Guest::prepare(guest)?;
    // The rings need a runtime, although this test does not wait for them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut live = Live::start(LiveOptions {
        events: events.clone(),
        emits_events: true,
        timing: Some(timing()?),
        entry: Some(entry.clone()),
        selection: Selection {
            filter: Filter {
                tgids: vec![guest.pid.parse()?],
                ..Filter::default()
            },
            ..Selection::default()
        },
        sizes: MapSizes {
            ring_bytes: RING_BYTES,
            ..MapSizes::default()
        },
        ..LiveOptions::default()
    })?;
    let mut rings = live.take_rings().ok_or("no rings")?;
    // The rings are read while the guest runs. Under emulation, interrupts can cause many more exits than the guest's code.
    let guest = thread::spawn(move || guest.run().map(drop));
    let mut batches = Vec::new();
    while !guest.is_finished() {
        thread::sleep(Duration::from_millis(1));
        drain(&mut rings, &mut batches);
    }
    guest.join().map_err(|_| "the guest's thread panicked")??;
    live.stop()?;
    drain(&mut rings, &mut batches);
    let lost = live
        .read_event_counts()?
        .into_iter()
        .filter(|it| it.lost > 0);
    let lost: Vec<_> = lost.collect();
    ensure(lost.is_empty(), || {
        format!("events were lost, so the results cannot be compared: {lost:?}")
    })?;

    let mut replay = Replay::new(ReplayOptions::new(timing()?, &events))?;
    let slow_in_kernel = feed(&mut replay, &events, &batches)?;
    let slow_in_replay: Vec<_> = replay.drain_slow_exits().collect();
    let replayed = Measured::read(
        |each| Ok::<_, Failed>(replay.read_exits(each)),
        slow_in_replay,
    )?;
    let in_kernel = Measured::read(|each| live.read_exits(each), slow_in_kernel)?;
    compare(&replayed, &in_kernel)
}

/// Reads all records of the rings.
fn drain(rings: &mut Rings, batches: &mut Vec<Batch>) {
    loop {
        let batch = rings.drain();
        if batch.is_empty() {
            return;
        }
        batches.push(batch);
    }
}

fn compare(replayed: &Measured, in_kernel: &Measured) -> Result<(), Failed> {
    let keys = |it: &Measured| it.exits.keys().copied().collect::<Vec<_>>();
    ensure_equal("keys", keys(replayed), keys(in_kernel))?;
    let mut count = 0;
    for (key, expected) in &in_kernel.exits {
        let exits = &replayed.exits[key];
        ensure(exits == expected, || {
            format!("{key:?}: replayed {exits:?}, expected {expected:?}")
        })?;
        ensure(
            expected.totals.timed_count() == 0 || expected.recent != MinMax::NONE,
            || format!("{key:?} has no extremes"),
        )?;
        count += expected.totals.timed_count();
    }
    ensure_equal("guest time", &replayed.guest_ns, &in_kernel.guest_ns)?;
    let expected_loss = Loss {
        // A stream does not contain the number of events for which the kernel ran no program.
        missed: Some(0),
        ..in_kernel.reading.loss
    };
    ensure_equal("loss", replayed.reading.loss, expected_loss)?;
    ensure_equal("slow exits", &replayed.slow, &in_kernel.slow)?;
    ensure(count > 0, || "no timed exits: nothing was tested".into())
}

/// Replays the events of the rings. Returns the slow exits that the eBPF programs reported there.
fn feed(
    replay: &mut Replay,
    events: &[Format],
    batches: &[Batch],
) -> Result<Vec<SlowExit>, Failed> {
    let mut slow = Vec::new();
    let mut ordered = OrderedStream::new(events, Selection::default());
    for batch in batches {
        slow.extend(batch.records().filter_map(|(_, record)| record.slow_exit()));
        ordered.add(batch.clone());
    }
    ordered.emit_until(u64::MAX, &|_| None, |item: &StreamItem<'_>, _| {
        replay.add_item(item);
        Ok::<_, Failed>(())
    })?;
    Ok(slow)
}

fn timing_request(tracefs: &Tracefs, kind: &str, causes: &[&str]) -> Result<TimingRequest, Failed> {
    let detail = |name: &str| -> Result<DetailEvent, Failed> {
        let kind = EventKind::from_name(name)?;
        Ok(DetailEvent {
            format: format(tracefs, &kind.event)?,
            kind,
        })
    };
    let details = causes.iter().filter(|it| **it != "rip");
    Ok(TimingRequest {
        host_isa: None,
        exit: Some(format(tracefs, "kvm_exit")?),
        entry: Some(format(tracefs, "kvm_entry")?),
        userspace_exit: Some(format(tracefs, "kvm_userspace_exit")?),
        wakeup: Some(format(tracefs, "kvm_vcpu_wakeup")?),
        switch: None,
        counted_event: match kind {
            VMEXIT => None,
            name => Some(detail(name)?),
        },
        cause_events: details.map(|it| detail(it)).collect::<Result<_, _>>()?,
        rip_is_cause: causes.contains(&"rip"),
        slow_threshold: Some(SLOW),
    })
}

/// Returns the formats of all events of a request, each once.
fn events(request: &TimingRequest, entry: &Format) -> Vec<Format> {
    let mut events: Vec<Format> = Vec::new();
    let formats = [&request.exit, &request.userspace_exit, &request.wakeup];
    let details = request.counted_event.iter().chain(&request.cause_events);
    let all = formats.into_iter().flatten().chain([entry]);
    for format in all.chain(details.map(|it| &it.format)) {
        if events.iter().all(|it| it.id != format.id) {
            events.push(format.clone());
        }
    }
    events
}

fn format(tracefs: &Tracefs, event: &str) -> Result<Format, Failed> {
    Ok(tracefs.read_format(&EventName {
        system: "kvm".into(),
        name: event.into(),
    })?)
}
