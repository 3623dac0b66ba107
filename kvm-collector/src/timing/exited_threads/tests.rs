//! Tests of [`ExitedThreads`].

use super::*;

fn thread(tgid: u32) -> VcpuThread {
    let mut thread = VcpuThread::new(u64::from(tgid) << 32 | 7, 0);
    (thread.task, thread.ended) = (0, 1);
    thread.clock.guest_ns = 5;
    thread
}

#[test]
fn memory_is_bounded_and_all_exits_are_counted() {
    let mut exited = ExitedThreads::default();
    let vms = 2 * u32::try_from(MAX_EXITED_ROWS).expect("a small number");
    let totals = ExitTotals {
        count: 3,
        total_ns: 30,
        ..ExitTotals::default()
    };
    let recent = MinMax {
        min_ns: 4,
        max_ns: 9,
    };
    for tgid in 1..=vms {
        exited.add_row(&thread(tgid), Key::default(), &totals, recent, None);
        exited.add_thread(&thread(tgid));
    }
    assert!(exited.rows.len() <= MAX_EXITED_ROWS);
    let (mut count, mut largest) = (0, 0);
    exited.read_rows(&RunningVcpus::default(), &mut |exits| {
        count += exits.totals.count;
        largest = largest.max(exits.totals.count);
    });
    assert_eq!(count, 3 * u64::from(vms));
    assert!(largest > 3, "the VMs that ended first are merged");
    let guest_ns: u64 = exited.vcpu_times().map(|it| it.guest_ns).sum();
    assert_eq!(guest_ns, 5 * u64::from(vms));
}

/// Reads all rows; returns the number of exits, and how many of them are open.
fn sums(exited: &mut ExitedThreads) -> (u64, u64) {
    let (mut count, mut open) = (0, 0);
    exited.read_rows(&RunningVcpus::default(), &mut |exits| {
        count += exits.totals.count;
        open += exits.totals.open;
    });
    (count, open)
}

fn key(code: u64) -> Key {
    Key {
        code,
        ..Key::default()
    }
}

#[test]
fn vcpus_of_one_vm_are_merged_too() {
    let mut exited = ExitedThreads::default();
    let vcpus = 2 * u32::try_from(MAX_EXITED_VCPUS).expect("a small number");
    for vcpu in 0..vcpus {
        let thread = VcpuThread { vcpu, ..thread(1) };
        // A thread without rows.
        exited.add_thread(&thread);
        exited.add_open_exit(&thread, Key::default());
    }
    assert!(exited.guest_ns.len() <= MAX_EXITED_VCPUS);
    assert!(exited.last_runs_ns.len() <= MAX_EXITED_VCPUS);
    assert!(exited.open_count <= MAX_EXITED_VCPUS);
    let guest_ns: u64 = exited.vcpu_times().map(|it| it.guest_ns).sum();
    assert_eq!(guest_ns, 5 * u64::from(vcpus));
    assert_eq!(sums(&mut exited), (vcpus.into(), vcpus.into()));
    assert_eq!(exited.dropped_exits(), 0);
}

#[test]
fn stored_open_exits_per_vcpu_are_bounded_and_all_are_counted() {
    let mut exited = ExitedThreads::default();
    for _ in 0..1000 {
        exited.add_open_exit(&thread(1), Key::default());
    }
    assert_eq!(exited.open_count, MAX_OPEN_EXITS_PER_VCPU);
    assert_eq!(sums(&mut exited), (1000, 1000));
}

#[test]
fn exits_beyond_the_row_capacity_are_counted_as_dropped() {
    let mut exited = ExitedThreads::default();
    let totals = ExitTotals {
        count: 3,
        ..ExitTotals::default()
    };
    let keys = MAX_EXITED_ROWS as u64 + 100;
    for code in 0..keys {
        exited.add_row(&thread(1), key(code), &totals, MinMax::NONE, None);
    }
    assert_eq!(exited.rows.len(), MAX_EXITED_ROWS);
    assert_eq!(exited.dropped_exits(), 300);
    assert_eq!(sums(&mut exited).0 + exited.dropped_exits(), 3 * keys);
}

#[test]
fn number_of_causes_is_bounded() {
    let mut exited = ExitedThreads::default();
    let mut table = kvm_ebpf_common::CauseTable::default();
    for number in 0..MAX_EXITED_ROWS as u64 {
        // Four threads of one vCPU, each with different causes.
        for thread_number in 0..4 {
            for (index, cause) in table.causes.iter_mut().enumerate() {
                cause.key = key(1000 * thread_number + index as u64);
                cause.count = 1;
            }
            let causes = Some(Causes::from(&table));
            let totals = ExitTotals::default();
            exited.add_row(&thread(1), key(number), &totals, MinMax::NONE, causes);
        }
    }
    let counted: usize = exited
        .rows
        .values()
        .filter_map(|it| it.causes.as_ref())
        .map(Causes::count)
        .sum();
    assert_eq!(counted, exited.causes);
    assert!(
        counted <= MAX_EXITED_CAUSES + CAUSES_PER_ROW * MAX_EXITED_ROWS,
        "{counted}"
    );
}

#[test]
fn recent_extremes_belong_to_the_reading_in_which_a_thread_ended() {
    let mut exited = ExitedThreads::default();
    let add = |exited: &mut ExitedThreads, ns: u64| {
        let recent = MinMax {
            min_ns: ns,
            max_ns: ns,
        };
        let key = Key::default();
        exited.add_row(&thread(1), key, &ExitTotals::default(), recent, None);
        recent
    };
    let read = |exited: &mut ExitedThreads| {
        let mut recent = Vec::new();
        exited.read_rows(&RunningVcpus::default(), &mut |exits| {
            recent.push(exits.recent)
        });
        recent
    };
    let first = add(&mut exited, 4);
    assert_eq!(read(&mut exited), [first]);
    // Another thread of the same vCPU.
    let second = add(&mut exited, 9);
    assert_eq!(read(&mut exited), [second]);
    assert_eq!(read(&mut exited), [MinMax::NONE]);
}
