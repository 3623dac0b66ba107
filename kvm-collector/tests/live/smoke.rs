//! The collector starts, and the test VM has the events of VM exits.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::{
    requirements::{Requirement, collector_command, test},
    support,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("collector_starts", &[], collector_starts),
        test(
            "vm_has_the_exit_events",
            &[
                Requirement::Vm,
                Requirement::Root,
                Requirement::Kvm,
                Requirement::ExitEvents,
                Requirement::Tracefs,
            ],
            vm_has_the_exit_events,
        ),
    ]
}

fn collector_starts() -> Result<(), Failed> {
    let output = collector_command().arg("--version").output()?;
    if !output.status.success() {
        return Err(format!("--version failed: {output:?}").into());
    }
    Ok(())
}

fn vm_has_the_exit_events() -> Result<(), Failed> {
    support::print_kernel(&fs::read_to_string("/proc/sys/kernel/osrelease")?);
    for event in ["kvm_exit", "kvm_entry"] {
        fs::metadata(format!("/sys/kernel/tracing/events/kvm/{event}/format"))?;
    }
    Ok(())
}
