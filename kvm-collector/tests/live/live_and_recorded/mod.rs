//! Live and recorded events are processed by the same code: the same guests, selected in the same way, give the same numbers.

mod compare;
mod intervals;
mod late_vm;
mod lost_events;
mod moving_vcpu;
mod preempted;
mod selectors;

use std::time::Duration;

use libtest_mimic::Trial;

use self::{
    intervals::intervals,
    late_vm::{late_vm, no_wait},
    lost_events::lost_events,
    moving_vcpu::live_equals_recorded_while_vcpu_moves,
    preempted::live_preempted_time_equals_recorded,
    selectors::live_equals_recorded,
};
use crate::{
    endless_vm::{run_after_another_thread_ended, run_in_new_threads, run_in_turns},
    exits::REQUIREMENTS,
    requirements::test,
};

/// The events that are recorded. With `sched_process_exit`, a recording has the same information as the eBPF programs.
const RECORDED: &str = "kvm:*,sched:sched_switch,sched:sched_process_exit";

/// As [`RECORDED`], for programs that do not measure preempted time.
const RECORDED_WITHOUT_SWITCHES: &str = "kvm:*,sched:sched_process_exit";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("live_equals_recorded_in_stat", REQUIREMENTS, || {
            live_equals_recorded("stat")
        }),
        test("live_equals_recorded_in_exits", REQUIREMENTS, || {
            live_equals_recorded("exits")
        }),
        test(
            "live_equals_recorded_in_exits_by_kind",
            REQUIREMENTS,
            || live_equals_recorded("mmio"),
        ),
        test(
            "live_preempted_time_equals_recorded",
            REQUIREMENTS,
            live_preempted_time_equals_recorded,
        ),
        test(
            "intervals_of_live_and_recorded_events_add_up",
            REQUIREMENTS,
            intervals,
        ),
        test("a_vm_that_starts_later_is_selected", REQUIREMENTS, late_vm),
        test(
            "an_absent_vm_is_an_error_with_no_wait",
            REQUIREMENTS,
            no_wait,
        ),
        test(
            "no_exit_is_timed_across_lost_events",
            REQUIREMENTS,
            lost_events,
        ),
        test(
            "live_equals_recorded_if_two_threads_alternate_on_a_vcpu",
            REQUIREMENTS,
            || live_equals_recorded_while_vcpu_moves(|vm| run_in_turns(vm.vcpu(0)?, 200)),
        ),
        test(
            "live_equals_recorded_if_new_threads_run_a_vcpu",
            REQUIREMENTS,
            || live_equals_recorded_while_vcpu_moves(|vm| run_in_new_threads(vm.vcpu(0)?, 20, 10)),
        ),
        test(
            "live_equals_recorded_if_a_vcpu_returns_from_an_ended_thread",
            REQUIREMENTS,
            // Meanwhile the collector frees the table entry of the ended thread.
            || {
                live_equals_recorded_while_vcpu_moves(|vm| {
                    run_after_another_thread_ended(vm.vcpu(0)?, Duration::from_secs(1))
                })
            },
        ),
    ]
}
