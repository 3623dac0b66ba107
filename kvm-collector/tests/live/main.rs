//! Tests that run the collector on real KVM events. Each test lists its requirements. A test with requirements that this machine
//! does not meet is reported as ignored, with the reason. All of them are met in the VM of `cargo xtask test`.

mod all_kinds;
#[cfg(target_arch = "aarch64")]
#[path = "arch/aarch64.rs"]
mod arch;
#[cfg(target_arch = "x86_64")]
#[path = "arch/x86_64.rs"]
mod arch;
mod check;
mod churn;
mod container;
mod counts;
mod doctor;
mod ending;
mod endless_vm;
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
mod idle_vms;
mod kinds;
#[cfg(target_arch = "x86_64")]
mod linux_guest;
mod live_and_recorded;
mod modules;
mod named_vcpus;
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
mod sandbox;
#[path = "../common/schema.rs"]
mod schema;
mod self_cost;
mod small_ring;
mod smoke;
mod support;
mod temp_files;
mod test_set;
#[path = "../common/thread_status.rs"]
mod thread_status;
mod top;
mod trace_filters;
mod trace_line;
mod vcpu_threads;
mod verifier;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    // First of all, since these functions fork, and the process must have only one thread then.
    if let Some(code) =
        container::run_if_requested().or_else(namespaces::unusual_vmm::run_vmm_if_requested)
    {
        return code;
    }
    top::panic_if_requested();
    let mut arguments = Arguments::from_args();
    // One test at a time, since concurrent tests would count each other's events.
    arguments.test_threads = Some(1);
    // On a fresh machine, tracefs is not mounted. This command mounts it if it may. Otherwise, the tests that require
    // tracefs are ignored.
    let _ = requirements::collector_command()
        .args(["list", "events"])
        .output();
    if requirements::is_test_vm() {
        resident_vm::create();
    }
    libtest_mimic::run(&arguments, test_set::select(tests())).exit_code()
}

fn tests() -> Vec<Trial> {
    [
        smoke::tests(),
        counts::tests(),
        exits::tests(),
        exits_recorded::tests(),
        kinds::tests(),
        #[cfg(target_arch = "x86_64")]
        linux_guest::tests(),
        all_kinds::tests(),
        vcpu_threads::tests(),
        named_vcpus::tests(),
        ftrace_oracle::tests(),
        perf_kvm::tests(),
        exit_time_parts::tests(),
        probe::tests(),
        churn::tests(),
        replay::tests(),
        live_and_recorded::tests(),
        small_ring::tests(),
        pressure::tests(),
        ending::tests(),
        other_subsystems::tests(),
        self_cost::tests(),
        errors::tests(),
        sandbox::tests(),
        doctor::tests(),
        idle_vms::tests(),
        event_text::tests(),
        trace_filters::tests(),
        top::tests(),
        record::tests(),
        verifier::tests(),
        namespaces::tests(),
        // Near the end, since they unload KVM.
        modules::tests(),
        // At the end, since no test can run after them.
        namespaces::last_tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
