//! A guest that causes many events, and checks of what collectors print about it.

use libtest_mimic::Failed;

use crate::{
    check::{ensure, ensure_equal, ensure_nothing_lost, get_list, get_number},
    guest::{Guest, GuestReport},
    process::{FinishedProcess, run_collector},
    running_collector::RunningCollector,
    small_ring::{EventCounts, count_delivered_and_lost},
};

/// A guest that causes events at full rate, and a `stat` that counts all its events exactly.
pub(super) struct Load {
    guest: Guest,
    oracle: RunningCollector,
}

/// What happened while the load ran.
pub(super) struct LoadReport {
    pub(super) guest: GuestReport,
    /// The exact number of events, by event name.
    pub(super) events: EventCounts,
}

impl Load {
    pub(super) fn prepare(iterations: &str) -> Result<Self, Failed> {
        Self::prepare_with(&["-n", iterations])
    }

    /// Like [`Load::prepare`], but the guest sleeps in each exit to user space: its events are slow enough for any reader.
    pub(super) fn prepare_slow(iterations: &str) -> Result<Self, Failed> {
        Self::prepare_with(&["-n", iterations, "--sleep", "20us"])
    }

    fn prepare_with(args: &[&str]) -> Result<Self, Failed> {
        let guest = Guest::prepare(&[&["-k", "io"], args].concat())?;
        let oracle = RunningCollector::start(&["stat", "--json", "-p", &guest.pid])?;
        Ok(Self { guest, oracle })
    }

    pub(super) fn pid(&self) -> String {
        self.guest.pid.clone()
    }

    /// Runs the guest until it ends. The guest does not wait for collectors.
    pub(super) fn run(self) -> Result<LoadReport, Failed> {
        let guest = self.guest.run()?;
        let report = self.oracle.end()?.expect_code(0)?.report()?;
        ensure_nothing_lost(&report)?;
        let mut events = EventCounts::new();
        for row in get_list(&report, "events")? {
            let name = row["event"].as_str().ok_or("no event")?;
            let name = name.strip_prefix("kvm:").ok_or("no system")?;
            events.insert(name.to_owned(), get_number(row, "count")?);
        }
        events.retain(|_, count| *count > 0);
        ensure_equal(
            "userspace exits by stat and by the guest",
            events.get("kvm_userspace_exit").copied(),
            Some(guest.userspace_exits()?),
        )?;
        Ok(LoadReport { guest, events })
    }
}

/// Fails unless each event was either printed or reported as lost, and both occurred. `output` is that of `trace --json`.
pub(super) fn check_all_accounted(
    output: &FinishedProcess,
    load_report: &LoadReport,
) -> Result<(), Failed> {
    let (delivered, lost) = count_delivered_and_lost(output)?;
    let mut sums = delivered.clone();
    for (event, count) in &lost {
        *sums.entry(event.clone()).or_default() += count;
    }
    ensure_equal("printed and lost events", sums, load_report.events.clone())?;
    ensure(!delivered.is_empty() && !lost.is_empty(), || {
        format!("the load was too small: printed {delivered:?}, lost {lost:?}")
    })
}

/// Like [`check_all_accounted`], for a recording.
pub(super) fn check_all_accounted_in(file: &str, load_report: &LoadReport) -> Result<(), Failed> {
    check_all_accounted(
        &run_collector(&["trace", "--json", "-i", file])?.expect_code(0)?,
        load_report,
    )
}

/// Fails unless all events were printed and none was lost. `output` is that of `trace --json`.
pub(super) fn check_complete(
    output: &FinishedProcess,
    load_report: &LoadReport,
) -> Result<(), Failed> {
    let (delivered, lost) = count_delivered_and_lost(output)?;
    ensure_equal("lost", lost, EventCounts::new())?;
    ensure_equal("printed", delivered, load_report.events.clone())
}
