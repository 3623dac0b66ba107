//! Tests of the collector, from outside, on a real KVM: whatever this host can do, and all of it in the VM of `cargo xtask test`.
//!
//! A trial says what it needs. Where that is not there, it ends as ignored with the reason, never as passed.

mod check;
mod choice;
mod counts;
mod errors;
mod exits;
mod exits_recorded;
mod ftrace;
mod guest;
mod keeper;
mod kinds;
mod line;
mod modules;
mod needs;
mod others;
mod own;
mod parts;
mod perf;
mod perf_data;
mod perf_kvm;
mod pressure;
mod probe;
mod process;
mod pty;
mod reasons;
mod recording;
mod replay;
mod ring;
mod smoke;
mod top;
mod vcpus;
mod verifier;
mod watch;
mod witness;
mod words;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    top::panic_if_asked();
    let mut arguments = Arguments::from_args();
    // The trials share one kernel and its counters: two at once would count each other's events.
    arguments.test_threads = Some(1);
    // On a fresh machine tracefs is not mounted. The collector mounts it where it may, which is a trial of its own; here it
    // only has to be there, or the trials that need it say that it is not.
    let _ = needs::collector().args(["list", "events"]).output();
    if needs::in_vm() {
        keeper::keep();
    }
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    // One line per file of trials.
    [
        smoke::trials(),
        counts::trials(),
        exits::trials(),
        exits_recorded::trials(),
        kinds::trials(),
        vcpus::trials(),
        witness::trials(),
        perf_kvm::trials(),
        parts::trials(),
        probe::trials(),
        replay::trials(),
        ring::trials(),
        pressure::trials(),
        others::trials(),
        own::trials(),
        errors::trials(),
        words::trials(),
        choice::trials(),
        top::trials(),
        perf_data::trials(),
        verifier::trials(),
        // Last, since they take KVM away.
        modules::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
