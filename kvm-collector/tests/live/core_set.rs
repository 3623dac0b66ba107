//! The core set: the tests that also run where an emulator makes everything slow. Together they show that counts are exact.

use std::env;

use libtest_mimic::Trial;

use crate::arch;

/// Environment variable that selects the core set.
const VARIABLE: &str = "KVM_TEST_CORE_SET";

/// Its tests on all architectures. [`arch::CORE_SET`] has the others.
const NAMES: [&str; 8] = [
    "vm_has_the_exit_events",
    "all_reasons_equal_the_guest_and_hist_triggers",
    "counts_equal_hist_triggers",
    "stat_text_contains_the_count_and_the_loss",
    "mmio_addresses_are_counted",
    "exits_of_a_recording_equal_live_exits",
    "trace_text_equals_ftrace",
    "collector_starts",
];

/// Returns the core set if it is selected; otherwise all tests.
pub(crate) fn select(mut tests: Vec<Trial>) -> Vec<Trial> {
    let core_set = [&NAMES, arch::CORE_SET].concat();
    for name in &core_set {
        assert!(
            tests.iter().any(|test| test.name() == *name),
            "the core set names `{name}`, which is not a test"
        );
    }
    if env::var_os(VARIABLE).is_some() {
        tests.retain(|test| core_set.contains(&test.name()));
    }
    tests
}
