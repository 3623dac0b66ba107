//! The sets of tests that some VMs run, instead of all tests.

use std::env;

use libtest_mimic::Trial;

use crate::arch;

/// Environment variable with the name of the set.
const VARIABLE: &str = "KVM_TEST_SET";

/// The core set, without [`arch::CORE_SET`]: what depends on the processor and the kernel. It also runs where an emulator makes
/// everything slow.
const CORE: &[&str] = &[
    "collector_starts",
    "vm_has_the_exit_events",
    "all_reasons_equal_the_guest_and_hist_triggers",
    "counts_equal_hist_triggers",
    "stat_text_contains_the_count_and_the_loss",
    "mmio_addresses_are_counted",
    "exits_of_a_recording_equal_live_exits",
    "exits_of_a_recording_equal_perf",
    "times_equal_ftrace",
    "trace_text_equals_ftrace",
    "top_once",
    "doctor_tries_each_command",
    "cpus_that_are_not_present_have_no_rings",
];

/// A VM of QEMU that runs Linux.
const LINUX_GUEST: &[&str] = &["exits_of_linux_in_qemu_are_exact_and_named"];

/// Returns the tests of the selected set; without one, all tests.
///
/// # Panics
/// If there is no such set, or a set names a test that does not exist.
pub(crate) fn select(mut tests: Vec<Trial>) -> Vec<Trial> {
    let Some(set) = env::var_os(VARIABLE) else {
        return tests;
    };
    let names = match set.to_str() {
        Some("core") => [CORE, arch::CORE_SET].concat(),
        Some("linux-guest") => LINUX_GUEST.to_vec(),
        _ => panic!("{VARIABLE}={} is not a set of tests", set.display()),
    };
    for name in &names {
        assert!(
            tests.iter().any(|test| test.name() == *name),
            "{VARIABLE} names `{name}`, which is not a test"
        );
    }
    tests.retain(|test| names.contains(&test.name()));
    tests
}
