//! Events of other systems than KVM's, watched where they are about a vCPU's thread. Needs no hardware virtualization.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, equal, list, nothing_lost, number},
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const SWITCH: &str = "sched:sched_switch";

/// Returns of each vCPU to user space in which the VMM sleeps.
const SLEEPS: u64 = 200;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "switches_of_vcpu_threads_are_the_schedulers",
            REQUIREMENTS,
            switches,
        ),
        test("unknown_systems_and_events_are_said", REQUIREMENTS, unknown),
    ]
}

fn switches() -> Result<(), Failed> {
    let sleeps = SLEEPS.to_string();
    let guest = Guest::prepare(&["-k", "io", "-n", &sleeps, "--vcpus", "2", "--sleep", "1ms"])?;
    let events = format!("kvm_userspace_exit,{SWITCH}");
    let (pid, tids) = (guest.pid.clone(), guest.tids.clone());
    let one = RunningCollector::start(&["stat", "--json", "-e", &events, "-p", &pid])?;
    let all = RunningCollector::start(&["stat", "--json", "-e", &events, "--per-vm"])?;
    let trace = RunningCollector::start(&["trace", "--json", "-e", &events, "-p", &pid])?;
    let made = guest.run()?;
    let [one, all, trace] = [one.end()?, all.end()?, trace.end()?];
    let (one, all) = (one.expect_code(0)?.report()?, all.expect_code(0)?.report()?);
    nothing_lost(&one)?;

    let (mut all_traced, mut traced_in) = (0, 0);
    for line in trace.expect_code(0)?.stdout.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] != "sched_switch" {
            continue;
        }
        let is_ours = |field: &str| {
            let tid = number(&event["fields"], field)?;
            Ok::<_, Failed>(tids.iter().any(|it| u64::from(*it) == tid))
        };
        let (from, to) = (is_ours("prev_pid")?, is_ours("next_pid")?);
        ensure(from || to, || format!("it is not about the VM: {line}"))?;
        all_traced += 1;
        traced_in += u64::from(to);
    }
    equal("switches counted", count(&one)?, all_traced)?;
    // The scheduler counted them from just before the first entry. A thread is a vCPU's from its first exit on, to its
    // end: on a busy machine, that is some more.
    let known = made.sum("switches_in")?;
    ensure(
        known >= 2 * SLEEPS && known.abs_diff(traced_in) <= 8 + known / 20,
        || format!("{traced_in} switches to vCPUs, where the scheduler had {known}"),
    )?;

    // Others may have VMs here.
    let process = pid.parse::<u64>()?;
    let vm = list(&all, "vms")?
        .iter()
        .find(|vm| vm["pid"].as_u64() == Some(process))
        .ok_or("the VM is not among all")?;
    equal("switches of one of all VMs", count(vm)?, all_traced)
}

/// Of a report, how many switches.
fn count(report: &Value) -> Result<u64, Failed> {
    let events = list(report, "events")?;
    let event = events.iter().find(|it| it["event"] == SWITCH);
    number(event.ok_or("no sched_switch")?, "count")
}

fn unknown() -> Result<(), Failed> {
    for (pattern, said) in [
        ("sched:sched_swich", "among them sched:sched_switch"),
        ("nothing:*", "this kernel has 0 nothing events"),
    ] {
        let ended = run_collector(&["stat", "-d", "1ms", "-e", pattern])?.expect_code(1)?;
        ensure(ended.stderr.contains(said), || {
            format!("of `{pattern}`, said was: {}", ended.stderr)
        })?;
    }
    Ok(())
}
