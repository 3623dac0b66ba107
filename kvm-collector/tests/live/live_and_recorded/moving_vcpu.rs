//! A vCPU that is run by several threads, live and in a recording.

use std::process;

use libtest_mimic::Failed;
use serde_json::Value;

use super::compare::compare_losses;
use crate::{
    check::{ensure, ensure_equal, get_list, get_number, get_part},
    endless_vm::EndlessVm,
    process::run_collector,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// `exits` gives the same numbers live and from a recording if several threads of this process run one vCPU.
pub(super) fn live_equals_recorded_while_vcpu_moves(
    run_vcpu: fn(&EndlessVm) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let folder = TempDir::new("live-and-recorded-moves")?;
    let file = folder.file("kvm.data");
    let pid = process::id().to_string();
    let record = RunningCollector::start(&["record", "--strict", "-p", &pid, "-o", &file])?;
    let options = ["exits", "--json", "--by", "vcpu", "-p", &pid];
    let live = RunningCollector::start(&options)?;
    let vm = EndlessVm::new()?;
    run_vcpu(&vm)?;
    let live = live.end()?.expect_code(0)?.report()?;
    record.end()?.expect_code(0)?;
    let recorded = run_collector(&[&options[..], &["-i", &file]].concat())?.expect_code(0)?;
    let recorded = recorded.report()?;
    let [live_counts, recorded_counts] = [&live, &recorded].map(check_moved_vcpu);
    ensure_equal("count, open, untimed", recorded_counts?, live_counts?)?;
    compare_losses(&live, &recorded, false)
}

/// Fails unless the report has only one vCPU, which moved between threads and has no more time than elapsed. Returns the
/// number of its exits, of open exits and of exits without a time.
fn check_moved_vcpu(report: &Value) -> Result<[u64; 3], Failed> {
    let elapsed_ns = get_number(report, "elapsed_ns")?;
    let ([row], [vcpu]) = (get_list(report, "rows")?, get_list(report, "vcpus")?) else {
        return Err(format!("not one vCPU: {report}").into());
    };
    let mut sum_ns = 0;
    for field in [
        "guest_ns",
        "kernel_ns",
        "vmm_ns",
        "halted_ns",
        "preempted_ns",
        "open_ns",
    ] {
        sum_ns += get_part(vcpu, field)?;
    }
    ensure(sum_ns <= elapsed_ns && sum_ns > 0, || {
        format!("{sum_ns} of {elapsed_ns} ns: {report}")
    })?;
    let open = get_number(row, "open")?;
    ensure(open <= 1, || format!("{open} exits in progress: {report}"))?;
    let moved = get_number(&report["loss"], "moved")?;
    ensure(moved > 0, || format!("no exit moved: {report}"))?;
    let untimed = get_number(row, "untimed")?;
    ensure_equal("exits without a time", untimed, moved)?;
    Ok([get_number(row, "count")?, open, untimed])
}
