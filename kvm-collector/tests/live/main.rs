//! Tests of the collector, from outside, on a real KVM: whatever this host can do, and all of it in the VM of `cargo xtask test`.
//!
//! A trial says what it needs. Where that is not there, it ends as ignored with the reason, never as passed.

mod choice;
mod ftrace;
mod line;
mod needs;
mod smoke;
mod words;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The trials share one kernel and its counters: two at once would count each other's events.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    // One line per file of trials.
    [smoke::trials(), words::trials(), choice::trials()]
        .into_iter()
        .flatten()
        .collect()
}
