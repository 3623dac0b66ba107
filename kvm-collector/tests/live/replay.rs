//! Timed twice: by the kernel half as exits happen, and by user space from the events that were sent to it meanwhile. Both go by the
//! same readings of the clock, so every number of theirs is the same.

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
    check::{ensure, equal},
    exits::REQUIREMENTS,
    guest::Guest,
    requirements::test,
};

/// Enough for what happens while this process does not run.
const RING_BYTES: u32 = 64 << 20;

/// As long as user space sleeps, if it does: some exits take longer, others do not.
const SLOW: Duration = Duration::from_micros(100);

/// What has no interrupt controllers in the kernel, and what has.
const WITHOUT_APIC: &str =
    "io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,hypercall,page-fault,cr,wbinvd";
const WITH_APIC: &str = "timer,apic,ipi,io,msr,cpuid,page-fault";

/// All that exits may be about.
const CAUSES: [&str; 6] = ["pio", "mmio", "msr", "cpuid", "hypercall", "page-fault"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("replayed_exits_are_the_kernels", REQUIREMENTS, || {
            same(&["-k", WITHOUT_APIC, "-n", "100"], VMEXIT, &CAUSES)
        }),
        test("replayed_halts_are_the_kernels", REQUIREMENTS, || {
            same(&["-k", WITH_APIC, "-n", "40"], VMEXIT, &CAUSES)
        }),
        test("replayed_vcpus_are_the_kernels", REQUIREMENTS, || {
            let sleeping = ["--sleep", "100us", "--vcpus", "2"];
            same(
                &[&["-k", WITHOUT_APIC, "-n", "50"], &sleeping[..]].concat(),
                VMEXIT,
                &CAUSES,
            )?;
            same(
                &["-k", WITH_APIC, "-n", "10", "--vcpus", "2"],
                VMEXIT,
                &["rip"],
            )
        }),
        test("replayed_kinds_are_the_kernels", REQUIREMENTS, || {
            for kind in [
                "pio",
                "mmio",
                "msr",
                "userspace",
                "page-fault",
                "kvm_cpuid.rax",
            ] {
                let args = ["-k", WITHOUT_APIC, "-n", "30", "--vcpus", "2"];
                same(&args, kind, &["hypercall"])
                    .map_err(|it| format!("{kind}: {}", it.message().unwrap_or_default()))?;
            }
            same(&["-k", WITH_APIC, "-n", "10"], "userspace", &["msr"])
        }),
    ]
}

/// What was handed over of one thread's key, and of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exits {
    totals: ExitTotals,
    recent: MinMax,
    causes: Causes,
}

#[derive(Debug, Default)]
struct Account {
    exits: BTreeMap<(VcpuId, Key), Exits>,
    guest_ns: BTreeMap<VcpuId, u64>,
    reading: ExitReading,
    slow: Vec<SlowExit>,
}

impl Account {
    fn of<E>(
        exits_of: impl FnOnce(&mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, E>,
        mut slow: Vec<SlowExit>,
    ) -> Result<Self, E> {
        slow.sort_by_key(|it| (it.header.time_ns, it.header.tid));
        let mut account = Self {
            slow,
            ..Self::default()
        };
        let exits = &mut account.exits;
        account.reading = exits_of(&mut |it: &ThreadExits<'_>| {
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
        for vcpu in &account.reading.vcpus {
            *account.guest_ns.entry(vcpu.vcpu_id).or_default() += vcpu.guest_ns;
        }
        Ok(account)
    }
}

fn same(guest: &[&str], kind: &str, causes: &[&str]) -> Result<(), Failed> {
    let tracefs = Tracefs::find_or_mount()?;
    let pairing = || pairing(&tracefs, kind, causes);
    let entry = format(&tracefs, "kvm_entry")?;
    let events = events(&pairing()?, &entry);
    let guest = Guest::prepare(guest)?;
    // The ring is waited for with an executor; here it is only read.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut live = Live::start(LiveOptions {
        events: events.clone(),
        emits_events: true,
        timing: Some(pairing()?),
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
    let mut ring = live.take_rings().ok_or("no rings")?;
    // Under emulation a guest may be interrupted, and so leave, many times more often than it does by itself.
    let guest = thread::spawn(move || guest.run().map(drop));
    let mut batches = Vec::new();
    while !guest.is_finished() {
        thread::sleep(Duration::from_millis(1));
        drain(&mut ring, &mut batches);
    }
    guest.join().map_err(|_| "the guest's thread panicked")??;
    live.stop()?;
    drain(&mut ring, &mut batches);
    let lost = live
        .read_event_counts()?
        .into_iter()
        .filter(|it| it.lost > 0);
    let lost: Vec<_> = lost.collect();
    ensure(lost.is_empty(), || {
        format!("not compared, since events found no room: {lost:?}")
    })?;

    let mut replay = Replay::new(ReplayOptions::new(pairing()?, &events))?;
    let slow = feed(&mut replay, &events, &batches)?;
    let by_user_space: Vec<_> = replay.drain_slow_exits().collect();
    let by_user_space = Account::of(
        |each| Ok::<_, Failed>(replay.read_exits(each)),
        by_user_space,
    )?;
    let by_kernel = Account::of(|each| live.read_exits(each), slow)?;
    compare(&by_user_space, &by_kernel)
}

/// Takes what is in the ring.
fn drain(ring: &mut Rings, batches: &mut Vec<Batch>) {
    loop {
        let batch = ring.drain();
        if batch.is_empty() {
            return;
        }
        batches.push(batch);
    }
}

fn compare(got: &Account, expected: &Account) -> Result<(), Failed> {
    let keys = |it: &Account| it.exits.keys().copied().collect::<Vec<_>>();
    equal("keys", keys(got), keys(expected))?;
    let mut count = 0;
    for (key, of_kernel) in &expected.exits {
        let of_user = &got.exits[key];
        ensure(of_user == of_kernel, || {
            format!("{key:?}: got {of_user:?}, expected {of_kernel:?}")
        })?;
        ensure(
            of_kernel.totals.timed_count() == 0 || of_kernel.recent != MinMax::NONE,
            || format!("{key:?} has no extremes"),
        )?;
        count += of_kernel.totals.timed_count();
    }
    equal("time in the guest", &got.guest_ns, &expected.guest_ns)?;
    let of_kernel = Loss {
        // Events that ran no program: of a stream, nobody can say.
        missed: Some(0),
        ..expected.reading.loss
    };
    equal("loss", got.reading.loss, of_kernel)?;
    equal("slow exits", &got.slow, &expected.slow)?;
    ensure(count > 0, || "there were none: this tests nothing".into())
}

/// Replays what came through the ring. Returns the slow exits that the kernel half reported there.
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

fn pairing(tracefs: &Tracefs, kind: &str, causes: &[&str]) -> Result<TimingRequest, Failed> {
    let detail = |name: &str| -> Result<DetailEvent, Failed> {
        let kind = EventKind::from_name(name)?;
        Ok(DetailEvent {
            format: format(tracefs, &kind.event)?,
            kind,
        })
    };
    let details = causes.iter().filter(|it| **it != "rip");
    Ok(TimingRequest {
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

/// Each event once.
fn events(pairing: &TimingRequest, entry: &Format) -> Vec<Format> {
    let mut events: Vec<Format> = Vec::new();
    let formats = [&pairing.exit, &pairing.userspace_exit, &pairing.wakeup];
    let details = pairing.counted_event.iter().chain(&pairing.cause_events);
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
