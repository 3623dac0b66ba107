//! Exits from recorded events, against a second way of finding out what is to be found.

mod reference;
mod rules;
mod stream;

use std::collections::BTreeMap;

use kvm_collector::model::{Causes, ExitReading, ExitTotals, MinMax, VcpuId};
use kvm_ebpf_common::{BUCKETS, Key, bucket_index, is_valid_time};
use proptest::{prelude::*, test_runner::TestCaseError};

use reference::{Sum, Truth};
use stream::{Event, Feeder, Mode, What};

/// All that was handed over under a thread's key.
#[derive(Debug, Clone)]
struct Got {
    totals: ExitTotals,
    recent: MinMax,
    causes: Causes,
}

type Rows = BTreeMap<(VcpuId, Key), Got>;

fn read(feeder: &mut Feeder) -> (Rows, ExitReading) {
    let mut rows = Rows::new();
    let reading = feeder.replay.read_exits(&mut |exits| {
        let row = rows
            .entry((exits.vcpu_id, exits.key))
            .or_insert_with(|| Got {
                totals: ExitTotals::default(),
                recent: MinMax::NONE,
                causes: Causes::default(),
            });
        row.totals.merge(exits.totals);
        row.recent.merge(exits.recent);
        if let Some(causes) = exits.causes {
            row.causes.merge(causes);
        }
    });
    (rows, reading)
}

/// Feeds a stream, and at each reading and at the end hands over what is read, what is behind, and where
/// the reading before was.
fn feed(
    events: &[Event],
    mode: Mode,
    mut each: impl FnMut(&Rows, &ExitReading, &[Event], usize) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut feeder = Feeder::new(mode);
    let mut since = 0;
    for (index, event) in events.iter().enumerate() {
        feeder.feed(event);
        if event.what == What::Reading {
            let (rows, reading) = read(&mut feeder);
            each(&rows, &reading, &events[..=index], since)?;
            since = index;
        }
    }
    let (rows, reading) = read(&mut feeder);
    each(&rows, &reading, events, since)
}

fn min_max(times_ns: &[u64]) -> MinMax {
    let mut extremes = MinMax::NONE;
    for &ns in times_ns {
        extremes.merge(MinMax {
            min_ns: ns,
            max_ns: ns,
        });
    }
    extremes
}

fn totals(sum: &Sum) -> ExitTotals {
    let mut histogram = [0; BUCKETS];
    for ns in &sum.times_ns {
        histogram[bucket_index(*ns)] += 1;
    }
    ExitTotals {
        count: sum.open + sum.untimed + sum.times_ns.len() as u64,
        open: sum.open,
        untimed: sum.untimed,
        total_ns: sum.times_ns.iter().sum(),
        vmm_ns: sum.vmm_ns,
        halted_ns: sum.halted_ns,
        preempted_ns: sum.preempted_ns,
        extremes: min_max(&sum.times_ns),
        histogram,
    }
}

fn compare(rows: &Rows, reading: &ExitReading, truth: &Truth) -> Result<(), TestCaseError> {
    let keys: Vec<_> = rows.keys().collect();
    let expected: Vec<_> = truth.sums.keys().collect();
    prop_assert_eq!(keys, expected);
    for (key, sum) in &truth.sums {
        let got = &rows[key];
        prop_assert_eq!(&got.totals, &totals(sum), "{:?}", key);
        prop_assert_eq!(got.recent, min_max(&sum.recent_ns), "{:?}", key);
        let ranked = got.causes.ranked();
        for (cause, count) in &sum.causes {
            match ranked.iter().find(|it| it.0 == *cause) {
                Some((_, it)) => prop_assert!((it.at_least..=it.at_most).contains(count)),
                None => prop_assert!(*count <= got.causes.unseen()),
            }
        }
        let at_least: u64 = ranked.iter().map(|it| it.1.at_least).sum();
        prop_assert!(at_least <= sum.causes.values().sum());
    }
    let mut guest_ns = BTreeMap::new();
    for vcpu in &reading.vcpus {
        *guest_ns.entry(vcpu.vcpu_id).or_default() += vcpu.guest_ns;
    }
    prop_assert_eq!(&guest_ns, &truth.guest_ns);
    prop_assert_eq!(reading.loss.unmatched, truth.unmatched);
    prop_assert_eq!(reading.loss.moved, truth.moved);
    let total_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    prop_assert!(total_ns >= truth.out_ns);
    Ok(())
}

/// What has to hold whatever happens.
fn invariants(rows: &Rows, reading: &ExitReading, events: &[Event]) -> Result<(), TestCaseError> {
    let mut of_thread: BTreeMap<VcpuId, u64> = BTreeMap::new();
    for ((vcpu_id, key), got) in rows {
        let it = &got.totals;
        prop_assert_eq!(
            it.open + it.untimed + it.timed_count(),
            it.count,
            "{:?}",
            key
        );
        let parts = [it.vmm_ns, it.halted_ns, it.preempted_ns];
        let sum = parts.iter().try_fold(0u64, |sum, it| sum.checked_add(*it));
        prop_assert!(sum.is_some_and(|sum| sum <= it.total_ns), "{it:?}");
        prop_assert_eq!(
            sum.unwrap_or(0) + it.kernel_ns(),
            it.total_ns,
            "nothing is in two parts"
        );
        if it.timed_count() > 0 {
            let MinMax { min_ns, max_ns } = it.extremes;
            prop_assert!(min_ns <= max_ns);
            prop_assert!((min_ns..=max_ns).contains(&it.mean_ns()));
        } else {
            prop_assert_eq!(it.extremes, MinMax::NONE);
            prop_assert_eq!(it.total_ns, 0);
        }
        let of_thread = of_thread.entry(*vcpu_id).or_default();
        *of_thread = of_thread.checked_add(it.total_ns).expect("time is finite");
    }
    for vcpu in &reading.vcpus {
        let of_thread = of_thread.entry(vcpu.vcpu_id).or_default();
        let all = of_thread.checked_add(vcpu.guest_ns + vcpu.open_ns);
        *of_thread = all.expect("time is finite");
    }
    // A vCPU is in one place at a time. After the end of its thread another one may run it: if time goes back there,
    // nothing tells that it was the vCPU's before.
    let is_in_order = events.is_sorted_by_key(|it| it.time_ns);
    if !is_in_order && events.iter().any(|it| it.what == What::End) {
        return Ok(());
    }
    // From the earliest: time may go back behind the first event.
    let times = || {
        events
            .iter()
            .map(|it| it.time_ns)
            .filter(|it| is_valid_time(*it))
    };
    let elapsed_ns = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    for (vcpu_id, ns) in of_thread {
        prop_assert!(ns <= elapsed_ns, "{vcpu_id:?}: {ns}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_read_is_what_happened(events in stream::plausible(), mode in stream::modes()) {
        feed(&events, mode, |rows, reading, events, since| {
            compare(rows, reading, &reference::read(events, mode, since))
        })?;
    }

    #[test]
    fn time_is_in_one_place_whatever_happens(events in stream::wild(), mode in stream::modes()) {
        feed(&events, mode, |rows, reading, events, _| invariants(rows, reading, events))?;
    }
}
