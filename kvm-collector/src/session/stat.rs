//! Counts events of the running kernel or of a recording.

use super::{
    HeldReports, IntervalTracker, ProgressLine, ReportPeriod, Schedule, WakeReason,
    progress::progress_text, read_recording,
};
use crate::{
    host::watch::ModuleWatch,
    model::{CountsSnapshot, Loss, StreamItem, VmName},
    probe::ProbeError,
    source::{Live, PlaybackOptions, Recording, RecordingSummary},
    timing::UnmatchedSelectors,
    tracefs::Format,
    view::{EventCounter, StatReport},
};

/// Counts events of the running kernel until the schedule ends. Calls `report` with the start of the measurement for each
/// interval of the schedule and for the total. Shows the progress until the end. Returns the total.
///
/// # Errors
/// When the kernel cannot be read, or the first error of `report`.
pub async fn live(
    live: &mut Live,
    schedule: &mut Schedule,
    progress: &mut ProgressLine,
    mut report: impl FnMut(ReportPeriod, Option<u64>, &StatReport) -> anyhow::Result<()>,
) -> anyhow::Result<StatReport> {
    schedule.watch_threads(live)?;
    let start_ns = live.start_ns();
    let mut intervals = IntervalTracker::new(live.zero_counts());
    let mut modules = ModuleWatch::start();
    loop {
        match schedule.next().await? {
            WakeReason::ThreadNotifications => live.handle_notifications()?,
            WakeReason::Refresh => {
                live.update_threads()?;
                modules.check();
                progress.show(|elapsed| {
                    let counts = live.read_event_counts()?;
                    let events = counts.iter().map(|it| it.count).sum();
                    Ok::<_, ProbeError>(progress_text(elapsed, events, "event"))
                })?;
            }
            WakeReason::Interval => {
                let interval = intervals.end_interval(&live.read_counts()?, |earlier, now| {
                    StatReport::between(start_ns, earlier, now)
                });
                report(ReportPeriod::Interval, Some(start_ns), &interval)?;
            }
            WakeReason::End => break,
        }
    }
    progress.erase();
    live.stop()?;
    let now = live.read_counts()?;
    if schedule.has_intervals() {
        let interval = intervals.end_interval(&now, |earlier, now| {
            StatReport::between(start_ns, earlier, now)
        });
        report(ReportPeriod::Interval, Some(start_ns), &interval)?;
    }
    let total = StatReport::between(start_ns, intervals.first(), &now);
    report(ReportPeriod::Total, Some(start_ns), &total)?;
    Ok(total)
}

/// Receives the reports.
type ReportFn<'a> = dyn FnMut(ReportPeriod, Option<u64>, &StatReport) -> anyhow::Result<()> + 'a;

/// Counts the selected events of a recording. `formats` are their formats, in the order of their slots.
/// Calls `report` with the start of the measurement for each interval of the options and for the total; the start is `None` if the
/// recording has no events. Before the total, `check` can reject the recording. Returns the total.
///
/// # Errors
/// When the recording cannot be read, or the first error of `report`.
pub fn recorded(
    mut recording: Recording,
    formats: &[Format],
    options: &PlaybackOptions,
    per_vm: bool,
    shows_progress: bool,
    mut report: impl FnMut(ReportPeriod, Option<u64>, &StatReport) -> anyhow::Result<()>,
    check: impl FnOnce(&RecordingSummary) -> anyhow::Result<()>,
) -> anyhow::Result<StatReport> {
    if per_vm {
        recording.identify_vms();
    }
    let mut counter = EventCounter::new(formats, per_vm);
    let zero_counts = |time_ns| CountsSnapshot {
        time_ns,
        ..EventCounter::new(formats, per_vm).counts(
            time_ns,
            &|_| VmName::default(),
            Loss::default(),
        )
    };
    let mut intervals: Option<IntervalTracker<CountsSnapshot>> = None;
    let mut held = HeldReports::default();
    let mut unmatched = UnmatchedSelectors::new(&options.selection);
    let mut report_interval = |start_ns, now: &CountsSnapshot, report: &mut ReportFn<'_>| {
        let intervals =
            intervals.get_or_insert_with(|| IntervalTracker::new(zero_counts(start_ns)));
        let interval = intervals.end_interval(now, |earlier, now| {
            StatReport::between(start_ns, earlier, now)
        });
        report(ReportPeriod::Interval, Some(start_ns), &interval)
    };
    let summary = read_recording(recording, options, shows_progress, |item, context| {
        if context.is_before_range {
            return Ok(());
        }
        let StreamItem::IntervalEnd { end_ns } = item else {
            if let StreamItem::Event(event) = item
                && !held.is_released()
                && unmatched.add_event(event.tgid, |tgid| context.names.vm_name(tgid))
            {
                let start_ns = context.start_ns.unwrap_or(event.time_ns);
                for now in held.release() {
                    report_interval(start_ns, &now, &mut report)?;
                }
            }
            counter.add_item(item);
            return Ok::<_, anyhow::Error>(());
        };
        let start_ns = context.start_ns.unwrap_or(*end_ns);
        let vm_name = |tgid| context.names.vm_name(tgid);
        let now = counter.counts(*end_ns, &vm_name, *context.loss);
        let now = now.with_vms_marked(|tgid| context.names.is_vm(tgid));
        for now in held.add(now) {
            report_interval(start_ns, &now, &mut report)?;
        }
        Ok(())
    })?;
    check(&summary)?;
    let (start_ns, end_ns) = summary.period_ns.unwrap_or_default();
    for now in held.release() {
        report_interval(start_ns, &now, &mut report)?;
    }
    let vm_name = |tgid| summary.names.vm_name(tgid);
    let now = counter.counts(end_ns, &vm_name, summary.loss);
    let now = now.with_vms_marked(|tgid| summary.names.is_vm(tgid));
    let total = StatReport::between(start_ns, &zero_counts(start_ns), &now);
    report(
        ReportPeriod::Total,
        summary.period_ns.map(|it| it.0),
        &total,
    )?;
    Ok(total)
}
