//! Tests of the collector, from outside, on a real KVM: whatever this host can do, and all of it in the VM of `cargo xtask test`.
//!
//! A test says what it needs. Where that is not there, it ends as ignored with the reason, never as passed.

mod check;
mod churn;
mod container;
mod counts;
mod ending;
mod engine;
mod errors;
mod event_text;
mod exit_reasons;
mod exit_time_parts;
mod exits;
mod exits_recorded;
mod ftrace_instance;
mod ftrace_oracle;
mod ftrace_recording;
mod guest;
mod kinds;
mod modules;
mod namespaces;
mod other_subsystems;
mod perf;
mod perf_kvm;
mod pressure;
mod probe;
mod process;
mod pty;
mod record;
mod replay;
mod requirements;
mod resident_vm;
mod running_collector;
mod self_cost;
mod small_ring;
mod smoke;
mod temp_files;
mod top;
mod trace_filters;
mod trace_line;
mod vcpu_threads;
mod verifier;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    // Before anything else: they fork, and must have one thread.
    if let Some(code) = container::run_if_requested().or_else(namespaces::run_vmm_if_requested) {
        return code;
    }
    top::panic_if_requested();
    let mut arguments = Arguments::from_args();
    // The tests share one kernel and its counters: two at once would count each other's events.
    arguments.test_threads = Some(1);
    // On a fresh machine tracefs is not mounted. The collector mounts it where it may, which is a test of its own; here it
    // only has to be there, or the tests that need it say that it is not.
    let _ = requirements::collector_command()
        .args(["list", "events"])
        .output();
    if requirements::is_test_vm() {
        resident_vm::create();
    }
    libtest_mimic::run(&arguments, tests()).exit_code()
}

fn tests() -> Vec<Trial> {
    // One line per file of tests.
    [
        smoke::tests(),
        counts::tests(),
        exits::tests(),
        exits_recorded::tests(),
        kinds::tests(),
        vcpu_threads::tests(),
        ftrace_oracle::tests(),
        perf_kvm::tests(),
        exit_time_parts::tests(),
        probe::tests(),
        churn::tests(),
        replay::tests(),
        engine::tests(),
        small_ring::tests(),
        pressure::tests(),
        ending::tests(),
        other_subsystems::tests(),
        self_cost::tests(),
        errors::tests(),
        event_text::tests(),
        trace_filters::tests(),
        top::tests(),
        record::tests(),
        verifier::tests(),
        namespaces::tests(),
        // Nearly last, since they take KVM away.
        modules::tests(),
        // Last, since nothing can be tested after them.
        namespaces::last_tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
