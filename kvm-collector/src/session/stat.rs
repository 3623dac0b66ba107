//! Counting events: of the running kernel, and of a recording.

use super::{Due, Intervals, Schedule, Span, play};
use crate::{
    host::watch::ModuleWatch,
    model::{CountsSnapshot, Loss, StreamItem},
    source::{Live, PlaybackOptions, Recording, RecordingSummary},
    tracefs::Format,
    view::{EventCounter, StatReport},
};

/// Counts the running kernel's events until the schedule says that it is over. Reports each interval, if the schedule
/// has intervals, and the total, which it returns.
///
/// # Errors
/// When the kernel cannot be read, or the first error of `report`.
pub async fn live(
    live: &mut Live,
    schedule: &mut Schedule,
    mut report: impl FnMut(Span, &StatReport) -> anyhow::Result<()>,
) -> anyhow::Result<StatReport> {
    schedule.watch_threads(live.notices_fd()?)?;
    let began_ns = live.start_ns();
    let mut intervals = Intervals::new(live.zero_counts());
    let mut modules = ModuleWatch::new();
    loop {
        match schedule.next().await? {
            Due::Threads => live.handle_notices()?,
            Due::Refresh => {
                live.update_threads()?;
                modules.check();
            }
            Due::Interval => {
                let interval = intervals.end_interval(&live.read_counts()?, |earlier, now| {
                    StatReport::between(began_ns, earlier, now)
                });
                report(Span::Interval, &interval)?;
            }
            Due::End => break,
        }
    }
    live.stop()?;
    let now = live.read_counts()?;
    if schedule.has_intervals() {
        let interval = intervals.end_interval(&now, |earlier, now| {
            StatReport::between(began_ns, earlier, now)
        });
        report(Span::Interval, &interval)?;
    }
    let total = StatReport::between(began_ns, intervals.first(), &now);
    report(Span::Total, &total)?;
    Ok(total)
}

/// Counts a recording's selected events, whose formats are given in the order of their slots. Reports each interval, if
/// the options have intervals, and the total, which it returns.
///
/// # Errors
/// When the recording cannot be read, or the first error of `report`.
pub fn recorded(
    recording: Recording,
    formats: &[Format],
    options: &PlaybackOptions,
    per_vm: bool,
    shows_progress: bool,
    mut report: impl FnMut(Span, &StatReport) -> anyhow::Result<()>,
) -> anyhow::Result<(StatReport, RecordingSummary)> {
    let mut counter = EventCounter::new(formats, per_vm);
    let nothing = |time_ns| CountsSnapshot {
        time_ns,
        ..EventCounter::new(formats, per_vm).counts(time_ns, &|_| String::new(), Loss::default())
    };
    let mut intervals: Option<Intervals<CountsSnapshot>> = None;
    let summary = play(recording, options, shows_progress, |item, context| {
        let StreamItem::IntervalEnd { end_ns } = item else {
            counter.take(item);
            return Ok::<_, anyhow::Error>(());
        };
        let began_ns = context.start_ns.unwrap_or(*end_ns);
        let vm_name = |tgid| context.names.vm_name(tgid);
        let now = counter.counts(*end_ns, &vm_name, *context.loss);
        let intervals = intervals.get_or_insert_with(|| Intervals::new(nothing(began_ns)));
        let interval = intervals.end_interval(&now, |earlier, now| {
            StatReport::between(began_ns, earlier, now)
        });
        report(Span::Interval, &interval)
    })?;
    let began_ns = summary.start_ns.unwrap_or(summary.end_ns);
    let vm_name = |tgid| summary.names.vm_name(tgid);
    let now = counter.counts(summary.end_ns, &vm_name, summary.loss);
    let total = StatReport::between(began_ns, &nothing(began_ns), &now);
    report(Span::Total, &total)?;
    Ok((total, summary))
}
