//! Times exits of the running kernel or of a recording.

use std::{cell::RefCell, convert::Infallible};

use kvm_ebpf_common::SlowExit;

use super::{
    HeldReports, IntervalTracker, ProgressLine, ReportPeriod, Schedule, WakeReason,
    drain::{DrainOutcome, drain},
    progress::progress_text,
    read_recording,
};
use crate::{
    model::{EventKind, ExitReading, StreamItem, ThreadExits, VmName},
    probe::{ProbeError, Rings},
    source::{IdleVms, Live, PlaybackOptions, Recording, RecordingSummary},
    timing::{Replay, ReplayOptions, TimingRequest, UnmatchedSelectors},
    view::{ExitGroups, GroupBy, KeyNames},
};

/// Cumulative exit counters at one time.
pub type Snapshot = (ExitGroups, ExitReading);

/// What a report needs besides the counters: its start, and the names of exit reasons and VMs.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub struct ReportContext<'a> {
    /// Start of the measurement, in ns of the clock of the events; `None` if it is that of a recording
    /// without events.
    pub start_ns: Option<u64>,
    /// Request that has the event formats, which contain the names of reasons.
    pub timing: &'a TimingRequest,
    /// Returns the name of a VM by the process id of its VMM.
    pub vm_name: &'a dyn Fn(u32) -> VmName,
    /// The running VMs, to list those without exits; `None` for a recording, and if other events are counted.
    pub idle_vms: Option<&'a RefCell<IdleVms>>,
    /// Number of processes that have made exits. Only for a measurement with [`idle_vms`](Self::idle_vms).
    pub processes: usize,
}

/// Receives the reports of [`live`] and [`recorded`].
pub trait ExitsOutput {
    /// Returns the keys that rows are grouped by.
    fn grouping(&self) -> &[GroupBy];

    /// Returns the codes of the selected exit reasons; `None` if all are selected.
    fn reasons(&self) -> Option<&[u32]>;

    /// Writes a report about the time between two snapshots.
    ///
    /// # Errors
    /// When writing fails.
    fn write_report(
        &mut self,
        period: ReportPeriod,
        earlier: &Snapshot,
        now: &Snapshot,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()>;

    /// Writes a slow exit, when it has ended.
    ///
    /// # Errors
    /// When writing fails.
    fn write_slow_exit(
        &mut self,
        exit: &SlowExit,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()>;

    /// Flushes the output.
    ///
    /// # Errors
    /// When writing fails.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Times exits of the running kernel until the schedule ends. Reports each interval and the total. Shows the
/// progress until the end.
///
/// # Errors
/// When the kernel cannot be read or the output cannot be written.
pub async fn live(
    live: &mut Live,
    timing: &TimingRequest,
    schedule: &mut Schedule,
    progress: &mut ProgressLine,
    output: &mut impl ExitsOutput,
) -> anyhow::Result<()> {
    schedule.watch_threads(live)?;
    let mut rings = live.take_rings();
    let mut intervals = IntervalTracker::new(Snapshot::default());
    let idle_vms = IdleVms::of(live.options()).map(RefCell::new);
    let idle_vms = idle_vms.as_ref();
    loop {
        tokio::select! {
            biased;
            reason = schedule.next() => match reason? {
                WakeReason::ThreadNotifications => live.handle_notifications()?,
                WakeReason::Refresh => {
                    live.update_threads()?;
                    progress.show(|elapsed| {
                        let mut count = 0;
                        live.read_exits(&mut |exits| count += exits.totals.count)?;
                        Ok::<_, ProbeError>(progress_text(elapsed, count, "exit"))
                    })?;
                }
                WakeReason::Interval => {
                    let now = take_snapshot(timing, output, |each| live.read_exits(each))?;
                    let vm = |tgid| live.names().display_name(tgid);
                    let report_context = ReportContext {
                        start_ns: Some(live.start_ns()),
                        timing,
                        vm_name: &vm,
                        idle_vms,
                        processes: live.names().count(),
                    };
                    intervals.end_interval(&now, |earlier, now| {
                        output.write_report(ReportPeriod::Interval, earlier, now, report_context)
                    })?;
                }
                WakeReason::End => break,
            },
            () = rings_ready(&mut rings) => {}
        }
        // Always read the rings: they have the lowest priority above, and would starve otherwise.
        write_slow_exits(&mut rings, live, timing, output)?;
    }
    progress.erase();
    live.stop()?;
    if let Some(idle) = idle_vms {
        idle.borrow_mut().expire();
    }
    // The programs are stopped, so this loop ends.
    while write_slow_exits(&mut rings, live, timing, output)? == DrainOutcome::MayHaveMore {}
    let now = take_snapshot(timing, output, |each| live.read_exits(each))?;
    let vm = |tgid| live.names().display_name(tgid);
    let report_context = ReportContext {
        start_ns: Some(live.start_ns()),
        timing,
        vm_name: &vm,
        idle_vms,
        processes: live.names().count(),
    };
    if schedule.has_intervals() {
        intervals.end_interval(&now, |earlier, now| {
            output.write_report(ReportPeriod::Interval, earlier, now, report_context)
        })?;
    }
    output.write_report(ReportPeriod::Total, intervals.first(), &now, report_context)
}

/// Waits until the rings may have slow exits; forever if slow exits are not requested.
async fn rings_ready(rings: &mut Option<Rings>) {
    match rings {
        Some(rings) => rings.ready().await,
        None => std::future::pending().await,
    }
}

/// Reads slow exits from the rings and writes them.
fn write_slow_exits(
    rings: &mut Option<Rings>,
    live: &mut Live,
    timing: &TimingRequest,
    output: &mut impl ExitsOutput,
) -> anyhow::Result<DrainOutcome> {
    let Some(rings) = rings else {
        return Ok(DrainOutcome::Empty);
    };
    let outcome = drain(
        rings,
        || true,
        |_, read| {
            // Read the names of new VMs first, while the VMs are running.
            live.handle_notifications()?;
            let records = read.batch.records();
            for exit in records.filter_map(|(_, record)| record.slow_exit()) {
                if live.is_selected(exit.header.tgid) {
                    let names = live.names();
                    let vm = |pid| names.display_name(names.latest(pid));
                    output.write_slow_exit(
                        &exit,
                        ReportContext {
                            start_ns: Some(live.start_ns()),
                            timing,
                            vm_name: &vm,
                            idle_vms: None,
                            processes: 0,
                        },
                    )?;
                }
            }
            Ok::<_, anyhow::Error>(())
        },
    )?;
    output.flush()?;
    Ok(outcome)
}

/// Times the exits of a recording. Reports each interval and the total.
///
/// At the end of the recording, `check` can reject it.
///
/// # Errors
/// When the recording cannot be read, exits cannot be timed, or the output cannot be written.
pub fn recorded(
    recording: Recording,
    replay: ReplayOptions,
    options: &PlaybackOptions,
    shows_progress: bool,
    output: &mut impl ExitsOutput,
    check: impl FnOnce(&RecordingSummary) -> anyhow::Result<()>,
) -> anyhow::Result<RecordingSummary> {
    let timing = replay.timing.clone();
    let timing = &timing;
    let has_slow = timing.slow_threshold.is_some();
    let mut replay = Replay::new(replay)?;
    let mut intervals = IntervalTracker::new(Snapshot::default());
    let mut held = HeldReports::default();
    let mut unmatched = UnmatchedSelectors::new(&options.selection);
    // The exits before the requested range.
    let mut before: Option<ExitGroups> = None;
    let summary = read_recording(recording, options, shows_progress, |item, context| {
        replay.add_item(item);
        let is_event = matches!(item, StreamItem::Event(_));
        if !has_slow && is_event && held.is_released() {
            return Ok(());
        }
        let mut due = Vec::new();
        let vm = |tgid| context.names.vm_name(tgid);
        let report_context = ReportContext {
            start_ns: context.start_ns,
            timing,
            vm_name: &vm,
            idle_vms: None,
            processes: 0,
        };
        if let StreamItem::Event(event) = item
            && !held.is_released()
            && unmatched.add_event(event.tgid, vm)
        {
            due.extend(held.release());
        }
        if has_slow {
            let ended = replay.drain_slow_exits();
            for exit in ended.filter(|_| !context.is_before_range) {
                due.extend(held.add(HeldReport::SlowExit(exit)));
            }
        }
        if let StreamItem::RangeStart { .. } = item {
            before = Some(take_recorded_snapshot(&mut replay, output, None)?.0);
        }
        if let StreamItem::IntervalEnd { .. } = item {
            let mut now = take_recorded_snapshot(&mut replay, output, before.as_ref())?;
            now.1.loss = now.1.loss.plus(context.loss);
            due.extend(held.add(HeldReport::Interval(Box::new(now))));
        }
        for report in due {
            report.write(&mut intervals, output, report_context)?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    check(&summary)?;
    if let Some((_, end_ns)) = summary.period_ns {
        replay.advance(end_ns);
    }
    let mut now = take_recorded_snapshot(&mut replay, output, before.as_ref())?;
    now.1.loss = now.1.loss.plus(&summary.loss);
    let vm = |tgid| summary.names.vm_name(tgid);
    let report_context = ReportContext {
        start_ns: summary.period_ns.map(|it| it.0),
        timing,
        vm_name: &vm,
        idle_vms: None,
        processes: 0,
    };
    for report in held.release() {
        report.write(&mut intervals, output, report_context)?;
    }
    output.write_report(ReportPeriod::Total, intervals.first(), &now, report_context)?;
    Ok(summary)
}

/// A report of a recording that is held until the selection is known to match.
#[derive(Debug)]
enum HeldReport {
    /// The reading at the end of an interval.
    Interval(Box<Snapshot>),
    SlowExit(SlowExit),
}

impl HeldReport {
    fn write(
        self,
        intervals: &mut IntervalTracker<Snapshot>,
        output: &mut impl ExitsOutput,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Interval(now) => intervals.end_interval(&now, |earlier, now| {
                output.write_report(ReportPeriod::Interval, earlier, now, context)
            }),
            Self::SlowExit(exit) => output.write_slow_exit(&exit, context),
        }
    }
}

/// Reads all exits from a replay and groups them, without those `before` the requested range.
fn take_recorded_snapshot(
    replay: &mut Replay,
    output: &impl ExitsOutput,
    before: Option<&ExitGroups>,
) -> anyhow::Result<Snapshot> {
    let timing = replay.options().timing.clone();
    let (groups, reading) = take_snapshot(&timing, output, |each| {
        Ok::<_, Infallible>(replay.read_exits(each))
    })?;
    Ok(match before {
        Some(before) => (groups.since_range_start(before), reading),
        None => (groups, reading),
    })
}

/// Reads all exits from a source and groups them.
fn take_snapshot<E: std::error::Error + Send + Sync + 'static>(
    timing: &TimingRequest,
    output: &impl ExitsOutput,
    exits: impl FnOnce(&mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, E>,
) -> anyhow::Result<Snapshot> {
    let kind: Option<&EventKind> = timing.counted_event.as_ref().map(|it| &it.kind);
    let mut groups = ExitGroups::new(output.grouping(), kind).with_reasons(output.reasons());
    let names = KeyNames::new(timing);
    let reading = exits(&mut |exits| groups.add_exits(exits, |key| names.is_halt(key)))?;
    groups.add_vcpus(&reading.vcpus);
    Ok((groups, reading))
}
