//! Ids, names and times when the collector runs in namespaces, and VMMs with unusual processes.

mod lockdown;
mod pid_namespace;
mod time_namespace;
pub(crate) mod unusual_vmm;
mod user_namespace;

use std::process::Command;

use libtest_mimic::{Failed, Trial};

use self::{
    lockdown::lockdown,
    pid_namespace::{pid_namespace, pid_namespace_with_host_proc},
    time_namespace::{clock_change, event_times, exit_times, offset_of_short_uptime},
    unusual_vmm::{vmm_with_forked_child, vmm_without_main_thread},
    user_namespace::user_namespace,
};
use crate::{
    guest::Guest,
    requirements::{Requirement, collector_command, test},
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

const EXIT_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::ExitEvents,
];

const VM_REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Vm,
];

/// The event that fires on every KVM.
const EVENT: &[&str] = &["-e", "kvm_userspace_exit"];

/// The arguments of a guest that runs until it is dropped.
const ENDLESS: &[&str] = &["-k", "io", "-n", "100000000", "--sleep", "1ms"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_container_does_not_see_names_of_other_vms",
            REQUIREMENTS,
            pid_namespace,
        ),
        test(
            "a_pid_namespace_with_the_hosts_proc_sees_all_names",
            REQUIREMENTS,
            pid_namespace_with_host_proc,
        ),
        test("a_user_namespace_is_an_error", REQUIREMENTS, user_namespace),
        test(
            "times_in_a_time_namespace_that_is_ahead",
            REQUIREMENTS,
            || event_times(100_000),
        ),
        test(
            "times_in_a_time_namespace_that_is_behind",
            REQUIREMENTS,
            || event_times(offset_of_short_uptime()?),
        ),
        test(
            "exit_times_in_a_time_namespace",
            EXIT_REQUIREMENTS,
            exit_times,
        ),
        test(
            "a_vm_without_a_main_thread_is_listed",
            REQUIREMENTS,
            vmm_without_main_thread,
        ),
        test(
            "a_forked_child_is_not_listed",
            REQUIREMENTS,
            vmm_with_forked_child,
        ),
        test("wall_time_follows_the_clock", VM_REQUIREMENTS, clock_change),
    ]
}

/// Returns the tests that must run last: lockdown lasts until the machine is rebooted, and prevents further tests.
pub(crate) fn last_tests() -> Vec<Trial> {
    vec![test("lockdown_is_an_error", VM_REQUIREMENTS, lockdown)]
}

/// Returns a command that runs the collector with these arguments.
fn collector_with(args: &[&str], more: &[&str]) -> Command {
    let mut command = collector_command();
    command.args(args).args(more);
    command
}

/// Starts a guest that runs until it is dropped. `command` runs the collector.
fn start_endless_guest(command: Command, name: &str) -> Result<Guest, Failed> {
    let mut guest = Guest::prepare_with(command, &[&["--name", name], ENDLESS].concat())?;
    guest.start()?;
    Ok(guest)
}
