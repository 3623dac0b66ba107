//! The replay of events: compared with a reference implementation on random streams, and with expected results on
//! short ones.

mod event;
mod feeder;
mod generators;
#[path = "../common/raw_event.rs"]
mod raw_event;
mod reference;
mod scenarios;

use std::collections::BTreeMap;

use kvm_collector::model::{Causes, ExitReading, ExitTotals, MinMax, VcpuId};
use kvm_ebpf_common::{BUCKETS, Key, bucket_index, is_valid_time};
use proptest::{prelude::*, test_runner::TestCaseError};

use event::{CountMode, EventType, StreamEvent};
use feeder::Feeder;
use reference::{ExpectedReading, ExpectedRow};

/// A row of a reading.
#[derive(Debug, Clone)]
struct Row {
    totals: ExitTotals,
    recent: MinMax,
    causes: Causes,
}

type Rows = BTreeMap<(VcpuId, Key), Row>;

fn read(feeder: &mut Feeder) -> (Rows, ExitReading) {
    let mut rows = Rows::new();
    let reading = feeder.replay.read_exits(&mut |exits| {
        let row = rows
            .entry((exits.vcpu_id, exits.key))
            .or_insert_with(|| Row {
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

/// Feeds a stream to a replay. At each reading and at the end, passes to `each` what is read, the events so far, and the
/// index of the previous reading.
fn feed(
    events: &[StreamEvent],
    mode: CountMode,
    mut each: impl FnMut(&Rows, &ExitReading, &[StreamEvent], usize) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut feeder = Feeder::new(mode);
    let mut previous_reading = 0;
    for (index, event) in events.iter().enumerate() {
        feeder.feed(event);
        if event.event_type == EventType::Reading {
            let (rows, reading) = read(&mut feeder);
            each(&rows, &reading, &events[..=index], previous_reading)?;
            previous_reading = index;
        }
    }
    let (rows, reading) = read(&mut feeder);
    each(&rows, &reading, events, previous_reading)
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

fn expected_totals(row: &ExpectedRow) -> ExitTotals {
    let mut histogram = [0; BUCKETS];
    for ns in &row.times_ns {
        histogram[bucket_index(*ns)] += 1;
    }
    ExitTotals {
        count: row.open + row.untimed + row.times_ns.len() as u64,
        open: row.open,
        untimed: row.untimed,
        total_ns: row.times_ns.iter().sum(),
        vmm_ns: row.vmm_ns,
        halted_ns: row.halted_ns,
        preempted_ns: row.preempted_ns,
        extremes: min_max(&row.times_ns),
        histogram,
    }
}

fn compare(
    rows: &Rows,
    reading: &ExitReading,
    expected: &ExpectedReading,
) -> Result<(), TestCaseError> {
    let keys: Vec<_> = rows.keys().collect();
    let expected_keys: Vec<_> = expected.rows.keys().collect();
    prop_assert_eq!(keys, expected_keys);
    for (key, expected_row) in &expected.rows {
        let row = &rows[key];
        prop_assert_eq!(&row.totals, &expected_totals(expected_row), "{:?}", key);
        prop_assert_eq!(row.recent, min_max(&expected_row.recent_ns), "{:?}", key);
        let ranked = row.causes.ranked();
        for (cause, count) in &expected_row.causes {
            match ranked.iter().find(|it| it.0 == *cause) {
                Some((_, it)) => prop_assert!((it.at_least..=it.at_most).contains(count)),
                None => prop_assert!(*count <= row.causes.unseen()),
            }
        }
        let at_least: u64 = ranked.iter().map(|it| it.1.at_least).sum();
        prop_assert!(at_least <= expected_row.causes.values().sum());
    }
    let mut guest_ns = BTreeMap::new();
    for vcpu in &reading.vcpus {
        *guest_ns.entry(vcpu.vcpu_id).or_default() += vcpu.guest_ns;
    }
    prop_assert_eq!(&guest_ns, &expected.guest_ns);
    prop_assert_eq!(reading.loss.unmatched, expected.unmatched);
    prop_assert_eq!(reading.loss.moved, expected.moved);
    let total_ns: u64 = rows.values().map(|it| it.totals.total_ns).sum();
    prop_assert!(total_ns >= expected.exit_ns);
    Ok(())
}

/// Checks what must be true for every stream.
fn check_invariants(
    rows: &Rows,
    reading: &ExitReading,
    events: &[StreamEvent],
) -> Result<(), TestCaseError> {
    let mut vcpu_ns: BTreeMap<VcpuId, u64> = BTreeMap::new();
    for ((vcpu_id, key), row) in rows {
        let totals = &row.totals;
        prop_assert_eq!(
            totals.open + totals.untimed + totals.timed_count(),
            totals.count,
            "{:?}",
            key
        );
        let parts = [totals.vmm_ns, totals.halted_ns, totals.preempted_ns];
        let sum = parts.iter().try_fold(0u64, |sum, it| sum.checked_add(*it));
        prop_assert!(sum.is_some_and(|sum| sum <= totals.total_ns), "{totals:?}");
        prop_assert_eq!(
            sum.unwrap_or(0) + totals.kernel_ns(),
            totals.total_ns,
            "the parts do not add up to the total"
        );
        if totals.timed_count() > 0 {
            let MinMax { min_ns, max_ns } = totals.extremes;
            prop_assert!(min_ns <= max_ns);
            prop_assert!((min_ns..=max_ns).contains(&totals.mean_ns()));
        } else {
            prop_assert_eq!(totals.extremes, MinMax::NONE);
            prop_assert_eq!(totals.total_ns, 0);
        }
        let sum_ns = vcpu_ns.entry(*vcpu_id).or_default();
        *sum_ns = sum_ns.checked_add(totals.total_ns).expect("no overflow");
    }
    for vcpu in &reading.vcpus {
        let sum_ns = vcpu_ns.entry(vcpu.vcpu_id).or_default();
        let with_guest_ns = sum_ns.checked_add(vcpu.guest_ns + vcpu.open_ns);
        *sum_ns = with_guest_ns.expect("no overflow");
    }
    // A vCPU has at most the time that has passed. This is not checked for streams with thread ends in which time goes
    // back: another thread may then run the vCPU at a time that was counted before.
    let is_in_order = events.is_sorted_by_key(|it| it.time_ns);
    if !is_in_order
        && events
            .iter()
            .any(|it| it.event_type == EventType::ThreadEnd)
    {
        return Ok(());
    }
    // Time may go back to before the first event.
    let times = || {
        events
            .iter()
            .map(|it| it.time_ns)
            .filter(|it| is_valid_time(*it))
    };
    let elapsed_ns = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    for (vcpu_id, ns) in vcpu_ns {
        prop_assert!(ns <= elapsed_ns, "{vcpu_id:?}: {ns}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_replay_agrees_with_the_reference(
        events in generators::plausible_streams(),
        mode in event::count_modes(),
    ) {
        feed(&events, mode, |rows, reading, events, previous_reading| {
            compare(rows, reading, &reference::read(events, mode, previous_reading))
        })?;
    }

    #[test]
    fn times_add_up_for_arbitrary_streams(
        events in generators::arbitrary_streams(),
        mode in event::count_modes(),
    ) {
        feed(&events, mode, |rows, reading, events, _| check_invariants(rows, reading, events))?;
    }
}
