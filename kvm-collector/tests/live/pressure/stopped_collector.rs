//! The collector is stopped (SIGSTOP) while a guest runs.

use std::{
    thread::{self},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rustix::process::Signal;
use serde_json::Value;

use super::{
    MANY_ITERATIONS, MAX_DELAY,
    load::{Load, LoadReport, check_all_accounted, check_all_accounted_in},
    memory_limit::{MemoryLimit, read_status},
};
use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list},
    counts::event_count,
    guest::GuestReport,
    process::FinishedProcess,
    running_collector::RunningCollector,
    temp_files::TempDir,
};

/// Runs the load while the collector is stopped. Then the collector continues, and ends.
fn run_while_stopped(
    load: Load,
    collector: RunningCollector,
) -> Result<(LoadReport, FinishedProcess), Failed> {
    let memory = MemoryLimit::new(collector.pid())?;
    collector.signal(Signal::STOP)?;
    let is_stopped = || Ok::<_, Failed>(read_status(collector.pid(), "State")?.starts_with('T'));
    let deadline = Instant::now() + MAX_DELAY;
    while !is_stopped()? {
        ensure(Instant::now() < deadline, || {
            "the collector does not stop".into()
        })?;
        thread::sleep(Duration::from_millis(5));
    }
    let load_report = load.run();
    let is_still_stopped = is_stopped()?;
    collector.signal(Signal::CONT)?;
    let load_report = load_report?;
    ensure(is_still_stopped, || {
        "the collector continued by itself".into()
    })?;
    // The collector reads everything that has accumulated. Its memory must not grow by that.
    thread::sleep(Duration::from_millis(500));
    memory.check()?;
    Ok((load_report, collector.end()?.expect_code(0)?))
}

pub(super) fn stopped_stat() -> Result<(), Failed> {
    let load = Load::prepare(MANY_ITERATIONS)?;
    let args = ["stat", "--json", "--per-vm", "-I", "100ms", "-p"];
    let collector = RunningCollector::start(&[&args[..], &[&load.pid()]].concat())?;
    let (load_report, ended) = run_while_stopped(load, collector)?;
    let report = ended.report()?;
    ensure_nothing_lost(&report)?;
    for counts in [&report, &get_list(&report, "vms")?[0]] {
        ensure_equal(
            "userspace exits",
            event_count(counts, "kvm:kvm_userspace_exit")?,
            load_report.guest.userspace_exits()?,
        )?;
    }
    Ok(())
}

pub(super) fn stopped_exits(
    args: &[&str],
    compare: fn(&Value, &GuestReport) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let load = Load::prepare(MANY_ITERATIONS)?;
    let pid = load.pid();
    let fixed = ["exits", "--json", "-I", "100ms", "-p", &pid];
    let collector = RunningCollector::start(&[&fixed, args].concat())?;
    let (load_report, ended) = run_while_stopped(load, collector)?;
    let report = ended.report()?;
    ensure_nothing_lost(&report)?;
    compare(&report, &load_report.guest)
}

pub(super) fn stopped_trace() -> Result<(), Failed> {
    let load = Load::prepare(MANY_ITERATIONS)?;
    let args = ["trace", "--json", "--ring", "256K", "-p", &load.pid()];
    let collector = RunningCollector::start(&args)?;
    let (load_report, ended) = run_while_stopped(load, collector)?;
    check_all_accounted(&ended, &load_report)
}

pub(super) fn stopped_record() -> Result<(), Failed> {
    let folder = TempDir::new("stopped")?;
    let file = folder.file("kvm.data");
    let load = Load::prepare(MANY_ITERATIONS)?;
    let args = ["record", "--ring", "256K", "-o", &file, "-p", &load.pid()];
    let collector = RunningCollector::start(&args)?;
    let (load_report, _) = run_while_stopped(load, collector)?;
    check_all_accounted_in(&file, &load_report)
}
