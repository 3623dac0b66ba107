//! VMs that run but make no exits are listed with what they do.

use std::{thread, time::Duration};

use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_list, get_number},
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("vm_that_waits_in_its_vmm_is_listed", REQUIREMENTS, waiting),
        test("stopped_vm_is_listed", REQUIREMENTS, stopped),
        test("halted_vm_is_listed", REQUIREMENTS, halted),
        test("running_vm_without_exits_is_listed", REQUIREMENTS, running),
        test("top_shows_idle_vms", REQUIREMENTS, in_top),
        test("selection_applies_to_idle_vms", REQUIREMENTS, selection),
    ]
}

/// Measures a guest for a moment. Returns the report, and the states of its vCPUs if it made no exits.
fn exits_and_states(pid: &str, options: &[&str]) -> Result<(Value, Vec<String>), Failed> {
    let args = ["exits", "--json", "-d", "300ms"];
    let report = run_collector(&[&args[..], options].concat())?
        .expect_code(0)?
        .report()?;
    let mut states = Vec::new();
    for vm in get_list(&report, "vms_without_exits")? {
        if get_number(vm, "pid")?.to_string() == pid {
            for vcpu in get_list(vm, "vcpus")? {
                states.push(vcpu["activity"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    Ok((report, states))
}

fn signal(guest: &Guest, signal: Signal) -> Result<(), Failed> {
    let pid = Pid::from_raw(guest.pid.parse()?).ok_or("not a process id")?;
    Ok(kill_process(pid, signal)?)
}

/// Lets a guest run until it does what its arguments say.
fn settle() {
    thread::sleep(Duration::from_millis(300));
}

fn waiting() -> Result<(), Failed> {
    let guest = Guest::prepare(&["--vcpus", "2", "--name", "idle-waiting"])?;
    let (_, states) = exits_and_states(&guest.pid, &[])?;
    ensure_equal("states", states, vec!["waits_in_vmm".to_owned(); 2])?;
    let text = run_collector(&["exits", "-d", "100ms"])?.expect_code(0)?;
    let expected = format!(
        "idle-waiting (pid {}): vCPUs 0, 1 waiting in the VMM",
        guest.pid
    );
    ensure(
        text.stdout.contains("VMs without exits") && text.stdout.contains(&expected),
        || text.stdout.clone(),
    )?;
    guest.run().map(drop)
}

const SPIN: [&str; 6] = ["-k", "io", "-n", "1000000", "--spin", "4000000000"];

fn stopped() -> Result<(), Failed> {
    let mut guest = Guest::prepare(&SPIN)?;
    guest.start()?;
    settle();
    signal(&guest, Signal::STOP)?;
    settle();
    let states = exits_and_states(&guest.pid, &[]);
    // The guest ends when it is dropped, which a stopped process does not notice.
    signal(&guest, Signal::CONT)?;
    ensure_equal("states", states?.1, vec!["stopped".to_owned()])
}

fn halted() -> Result<(), Failed> {
    let mut guest = Guest::prepare(&["-k", "timer", "--timer", "8s", "-n", "1"])?;
    guest.start()?;
    settle();
    let (_, states) = exits_and_states(&guest.pid, &[])?;
    ensure_equal("states", states, vec!["halted".to_owned()])
}

/// Interrupts of the host cause exits on most machines, so the VM is listed or has exits, but is never missing.
fn running() -> Result<(), Failed> {
    let mut guest = Guest::prepare(&SPIN)?;
    guest.start()?;
    settle();
    let (report, states) = exits_and_states(&guest.pid, &[])?;
    let pid: u64 = guest.pid.parse()?;
    let has_exits = get_list(&report, "vcpus")?
        .iter()
        .any(|vcpu| vcpu["pid"] == pid && vcpu["count"] != 0);
    let is_running = |state: &str| ["in_guest", "running"].contains(&state);
    let is_listed = states.len() == 1 && is_running(&states[0]);
    ensure(is_listed != has_exits, || format!("{states:?} in {report}"))
}

fn selection() -> Result<(), Failed> {
    let guest = Guest::prepare(&["--vcpus", "2", "--name", "idle-selected"])?;
    for (options, expected) in [
        (&["--vm", "idle-sel*"][..], 2),
        (&["--vm", "other"], 0),
        (&["-p", guest.pid.as_str()], 2),
        (&["--vcpu", "1"], 1),
        (&["--tid", &guest.tids[0].to_string()], 1),
    ] {
        let (_, states) = exits_and_states(&guest.pid, options)?;
        ensure_equal(&options.join(" "), states.len(), expected)?;
    }
    guest.run().map(drop)
}

fn in_top() -> Result<(), Failed> {
    let guest = Guest::prepare(&["--vcpus", "2", "--name", "idle-top"])?;
    let args = ["top", "--once", "-d", "300ms", "-p", guest.pid.as_str()];
    let top = run_collector(&args)?.expect_code(0)?.stdout;
    let has = |word| top.contains(word);
    ensure(
        has("idle-top (in VMM)") && has("1 VM") && has("2 vCPUs"),
        || top.clone(),
    )?;
    guest.run().map(drop)
}
