//! Tests of the vCPU state machine: sequences of events and the spans that follow.

use super::*;

fn key(code: u64) -> Key {
    Key {
        code,
        subcode: 0,
        kind: 0,
    }
}

/// Returns the clock of a thread that left the guest at 100 ns.
fn exited() -> VcpuClock {
    let mut clock = VcpuClock::default();
    assert_eq!(clock.on_exit(100, Some(key(1))), None);
    clock
}

fn breakdown(vmm_ns: u64, halted_ns: u64, preempted_ns: u64) -> SpanBreakdown {
    SpanBreakdown {
        vmm_ns,
        halted_ns,
        preempted_ns,
    }
}

/// Ends the open exit with an entry and returns its total time and breakdown.
fn end_exit(mut clock: VcpuClock, now_ns: u64) -> (u64, SpanBreakdown) {
    let span = clock.on_entry(now_ns).expect("an exit is open");
    (span.total_ns, span.breakdown)
}

#[test]
fn an_exit_lasts_until_the_next_entry() {
    let mut clock = exited();
    assert_eq!(clock.open_key(), Some(key(1)));
    let span = clock.on_entry(130).expect("an exit is open");
    assert_eq!(
        (span.key, span.total_ns, span.breakdown),
        (key(1), 30, breakdown(0, 0, 0))
    );
    assert_eq!(clock.open_key(), None);
    assert_eq!(clock.on_entry(140), None, "the exit has ended already");
}

#[test]
fn guest_time_lasts_from_an_entry_to_the_next_exit() {
    let mut clock = exited();
    clock.on_entry(130);
    clock.on_exit(170, Some(key(1)));
    assert_eq!(clock.guest_ns, 40);
    clock.on_exit(180, Some(key(1)));
    assert_eq!(clock.guest_ns, 40, "the thread was not in the guest");
    // The exit between two entries was lost. Only the time since the second entry counts.
    clock.on_entry(200);
    clock.on_entry(230);
    clock.on_exit(250, Some(key(1)));
    assert_eq!(clock.guest_ns, 60);
}

#[test]
fn guest_time_belongs_to_the_vcpu_that_exits() {
    let mut first = exited();
    first.on_entry(130);
    first.on_exit(140, Some(key(1)));
    first.on_entry(150);
    let mut second = VcpuClock::default();
    first.move_guest_time_to(&mut second);
    second.on_exit(180, Some(key(2)));
    assert_eq!((first.guest_ns, first.guest_since_ns), (10, 0));
    assert_eq!((second.guest_ns, second.guest_since_ns), (30, 0));
    // Without an entry there is no guest time to move.
    first.move_guest_time_to(&mut second);
    assert_eq!(second.guest_since_ns, 0);
}

#[test]
fn a_thread_is_in_kvm_run_until_it_returns_to_user_space() {
    let mut clock = VcpuClock::default();
    assert!(!clock.is_in_kvm_run(), "no event yet");
    clock.on_exit(100, None);
    assert!(clock.is_in_kvm_run());
    clock.on_userspace_exit(110);
    assert!(!clock.is_in_kvm_run());
    clock.on_entry(120);
    assert!(clock.is_in_kvm_run());
}

#[test]
fn an_exit_without_an_entry_is_untimed() {
    let mut clock = exited();
    clock.on_userspace_exit(105);
    assert_eq!(clock.on_exit(150, Some(key(2))), Some(key(1)));
    let span = clock.on_entry(160).expect("an exit is open");
    assert_eq!(
        (span.key, span.total_ns, span.breakdown),
        (key(2), 10, breakdown(0, 0, 0))
    );
}

#[test]
fn vmm_time_lasts_from_the_userspace_exit_to_the_entry() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    // A second return to user space before the entry.
    clock.on_userspace_exit(120);
    assert_eq!(end_exit(clock, 150), (50, breakdown(40, 0, 0)));
    let mut clock = VcpuClock::default();
    clock.on_userspace_exit(110);
    assert_eq!(clock, VcpuClock::default(), "no exit is open");
}

#[test]
fn a_wakeup_adds_the_halted_time_that_it_reports() {
    let mut clock = exited();
    clock.on_wakeup(180, 60);
    assert_eq!(end_exit(clock, 190), (90, breakdown(0, 60, 0)));
}

#[test]
fn halted_time_is_limited_to_the_exit() {
    let mut clock = exited();
    clock.on_wakeup(150, u64::MAX);
    assert_eq!(end_exit(clock, 160), (60, breakdown(0, 50, 0)));
}

#[test]
fn a_halt_ends_the_time_in_user_space() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    clock.on_wakeup(180, 40);
    assert_eq!(end_exit(clock, 190), (90, breakdown(30, 40, 0)));
}

#[test]
fn a_runnable_thread_that_is_switched_out_is_preempted() {
    let mut clock = exited();
    clock.on_switch_out(110);
    clock.on_switch_in(140);
    assert_eq!(end_exit(clock, 150), (50, breakdown(0, 0, 30)));
    // Preemption after the entry is not part of an exit.
    let mut clock = exited();
    clock.on_entry(110);
    clock.on_switch_out(120);
    assert_eq!(clock.preempted_since_ns, 0);
}

#[test]
fn preemption_in_user_space_is_not_vmm_time() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    clock.on_switch_out(120);
    clock.on_switch_in(150);
    assert_eq!(end_exit(clock, 160), (60, breakdown(20, 0, 30)));
}

#[test]
fn preemption_while_polling_is_not_halted_time() {
    let mut clock = exited();
    clock.on_switch_out(130);
    clock.on_switch_in(150);
    clock.on_wakeup(180, 60);
    assert_eq!(end_exit(clock, 190), (90, breakdown(0, 40, 20)));
    // Preemption before the halt does not reduce the halted time.
    let mut clock = exited();
    clock.on_switch_out(105);
    clock.on_switch_in(115);
    clock.on_wakeup(180, 60);
    assert_eq!(end_exit(clock, 190), (90, breakdown(0, 60, 10)));
}

#[test]
fn preemption_while_polling_does_not_reduce_vmm_time() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    clock.on_switch_out(130);
    clock.on_switch_in(150);
    clock.on_wakeup(180, 60);
    assert_eq!(end_exit(clock, 190), (90, breakdown(10, 40, 20)));
}

#[test]
fn an_event_of_a_preempted_thread_discards_the_preemption() {
    for event in [
        |clock: &mut VcpuClock| clock.on_userspace_exit(120),
        |clock: &mut VcpuClock| clock.on_wakeup(120, 0),
        |clock: &mut VcpuClock| assert!(clock.on_detail_event(120, key(2)).is_ok()),
    ] {
        let mut clock = exited();
        clock.on_switch_out(110);
        event(&mut clock);
        clock.on_switch_in(140);
        let (_, breakdown) = end_exit(clock, 150);
        assert_eq!(
            breakdown.preempted_ns, 0,
            "the end of the preemption is unknown"
        );
    }
}

#[test]
fn the_breakdown_never_exceeds_the_total() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    clock.on_wakeup(150, 30);
    clock.on_wakeup(160, 60);
    clock.on_wakeup(170, 70);
    let (total_ns, breakdown) = end_exit(clock, 170);
    assert_eq!(total_ns, 70);
    assert!(
        breakdown.vmm_ns + breakdown.halted_ns + breakdown.preempted_ns <= 70,
        "{breakdown:?}"
    );
}

#[test]
fn the_first_detail_event_sets_the_key_and_a_later_one_starts_a_span() {
    let mut clock = VcpuClock::default();
    assert_eq!(clock.on_exit(100, None), None);
    assert_eq!(clock.open_key(), None);
    assert_eq!(clock.on_detail_event(110, key(7)), Ok(None));
    clock.on_userspace_exit(120);
    let first = clock
        .on_detail_event(150, key(8))
        .expect("an exit is open")
        .expect("the first span");
    assert_eq!(
        (first.key, first.total_ns, first.breakdown),
        (key(7), 50, breakdown(30, 0, 0))
    );
    let second = clock.on_entry(160).expect("the second span");
    assert_eq!(
        (second.key, second.total_ns, second.breakdown),
        (key(8), 10, breakdown(0, 0, 0))
    );
}

#[test]
fn exits_without_a_detail_event_are_not_counted() {
    let mut clock = VcpuClock::default();
    clock.on_exit(100, None);
    assert_eq!(clock.on_entry(110), None);
    assert_eq!(clock.on_exit(120, None), None);
    assert_eq!(clock.on_exit(130, None), None);
}

#[test]
fn events_without_an_open_exit_are_untimed() {
    let mut clock = VcpuClock::default();
    assert_eq!(clock.on_detail_event(110, key(7)), Err(key(7)));
    clock.on_wakeup(120, 5);
    clock.on_switch_out(130);
    clock.on_switch_in(140);
    assert_eq!(clock, VcpuClock::default());
}

#[test]
fn an_exit_is_discarded_without_guest_time() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    assert_eq!(clock.discard_exit(), Some(key(1)));
    assert_eq!(clock.on_entry(150), None);
    assert_eq!(clock.discard_exit(), None);
    clock.on_exit(170, Some(key(2)));
    assert_eq!(clock.guest_ns, 20);
}

#[test]
fn a_gap_discards_the_open_exit_and_guest_time() {
    let mut clock = exited();
    clock.on_userspace_exit(110);
    assert_eq!(clock.reset_after_gap(), Some(key(1)));
    assert_eq!(clock.reset_after_gap(), None);
    assert_eq!(clock.on_entry(150), None);
    assert_eq!(clock.reset_after_gap(), None);
    clock.on_exit(170, Some(key(2)));
    assert_eq!(
        clock.guest_ns, 0,
        "the thread may have left the guest in between"
    );
    assert_eq!(end_exit(clock, 180), (10, breakdown(0, 0, 0)));
}

#[test]
fn halted_time_does_not_make_an_exit_slow() {
    let span = |total_ns, halted_ns| Span {
        total_ns,
        breakdown: breakdown(0, halted_ns, 0),
        ..Span::default()
    };
    assert_eq!(span(100, 60).busy_ns(), 40);
    assert_eq!(span(60, 100).busy_ns(), 0);
    assert!(span(100, 60).is_slow(39));
    assert!(!span(100, 60).is_slow(40));
    assert!(span(1, 0).is_slow(0));
    assert!(!span(u64::MAX >> 1, 0).is_slow(u64::MAX));
}

#[test]
fn a_thread_that_is_preempted_or_yields_is_not_waiting() {
    const TASK_REPORT_MAX: u64 = 0x100;
    assert!(!is_waiting(0));
    assert!(!is_waiting(TASK_REPORT_MAX));
    // TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE, EXIT_DEAD.
    assert!([1, 2, 0x10].into_iter().all(is_waiting));
}

#[test]
fn time_that_goes_backwards_counts_as_zero() {
    let mut clock = exited();
    clock.on_userspace_exit(50);
    clock.on_switch_out(60);
    clock.on_switch_in(40);
    clock.on_wakeup(30, 100);
    assert_eq!(end_exit(clock, 20), (0, breakdown(0, 0, 0)));
}
