//! The core set: the tests that also run where an emulator makes everything slow. Together they show that counts are exact.

use std::env;

use libtest_mimic::Trial;

/// Environment variable that selects the core set.
const VARIABLE: &str = "KVM_TEST_CORE_SET";

const NAMES: [&str; 7] = [
    "vm_has_the_exit_events",
    "all_reasons_equal_the_guest_and_hist_triggers",
    "stat_text_contains_the_count_and_the_loss",
    "ports_are_counted",
    "mmio_addresses_are_counted",
    "msrs_and_cpuid_leaves_are_counted",
    "exits_of_a_recording_equal_live_exits",
];

/// Returns the core set if it is selected; otherwise all tests.
pub(crate) fn select(mut tests: Vec<Trial>) -> Vec<Trial> {
    for name in NAMES {
        assert!(
            tests.iter().any(|test| test.name() == name),
            "the core set names `{name}`, which is not a test"
        );
    }
    if env::var_os(VARIABLE).is_some() {
        tests.retain(|test| NAMES.contains(&test.name()));
    }
    tests
}
