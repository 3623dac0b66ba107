//! Events of other subsystems, which are selected if they concern a vCPU thread. Needs no hardware virtualization.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    guest::Guest,
    process::run_collector,
    requirements::{Requirement, test},
    running_collector::RunningCollector,
};

const REQUIREMENTS: &[Requirement] = &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs];
const SWITCH: &str = "sched:sched_switch";

/// Number of exits to user space of each vCPU in which the VMM sleeps.
const SLEEPS: u64 = 200;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "switches_of_vcpu_threads_agree_with_the_scheduler",
            REQUIREMENTS,
            switches,
        ),
        test(
            "unknown_subsystems_and_events_are_errors",
            REQUIREMENTS,
            unknown,
        ),
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
    let guest_report = guest.run()?;
    let [one, all, trace] = [one.end()?, all.end()?, trace.end()?];
    let (one, all) = (one.expect_code(0)?.report()?, all.expect_code(0)?.report()?);
    ensure_nothing_lost(&one)?;

    let (mut all_traced, mut traced_in) = (0, 0);
    for line in trace.expect_code(0)?.stdout.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] != SWITCH {
            continue;
        }
        let is_vcpu_thread = |field: &str| {
            let tid = get_number(&event["fields"], field)?;
            Ok::<_, Failed>(tids.iter().any(|it| u64::from(*it) == tid))
        };
        let (from, to) = (is_vcpu_thread("prev_pid")?, is_vcpu_thread("next_pid")?);
        ensure(from || to, || {
            format!("the event does not concern the VM: {line}")
        })?;
        all_traced += 1;
        traced_in += u64::from(to);
    }
    ensure_equal("switches counted", count(&one)?, all_traced)?;
    // The guest reads the scheduler's count just before its first entry and after its last exit. The collector knows a vCPU
    // thread from its first exit to its end, so on a busy machine the numbers differ slightly.
    let scheduler_count = guest_report.sum("switches_in")?;
    ensure(
        scheduler_count >= 2 * SLEEPS
            && scheduler_count.abs_diff(traced_in) <= 8 + scheduler_count / 20,
        || format!("{traced_in} switches to vCPUs, {scheduler_count} according to the scheduler"),
    )?;

    // Other VMs may run on this host.
    let process = pid.parse::<u64>()?;
    let vm = get_list(&all, "vms")?
        .iter()
        .find(|vm| vm["pid"].as_u64() == Some(process))
        .ok_or("the VM is not among all")?;
    ensure_equal("switches of one of all VMs", count(vm)?, all_traced)
}

/// Returns the number of switches in a report.
fn count(report: &Value) -> Result<u64, Failed> {
    let events = get_list(report, "events")?;
    let event = events.iter().find(|it| it["event"] == SWITCH);
    get_number(event.ok_or("no sched_switch")?, "count")
}

fn unknown() -> Result<(), Failed> {
    for (pattern, message) in [
        ("sched:sched_swich", "did you mean sched:sched_switch"),
        ("nothing:*", "this kernel has no event system `nothing`"),
    ] {
        let ended = run_collector(&["stat", "-d", "1ms", "-e", pattern])?.expect_code(2)?;
        ensure(ended.stderr.contains(message), || {
            format!("message for `{pattern}`: {}", ended.stderr)
        })?;
    }
    Ok(())
}
