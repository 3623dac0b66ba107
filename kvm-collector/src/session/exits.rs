//! Timing exits: of the running kernel, and of a recording.

use std::convert::Infallible;

use kvm_ebpf_common::SlowExit;

use super::{
    Due, Intervals, Schedule, Span,
    drain::{Drained, drain},
    play,
};
use crate::{
    model::{ExitReading, EventKind, StreamItem, ThreadExits},
    probe::Rings,
    source::{Live, PlaybackOptions, Recording, RecordingSummary},
    timing::{TimingRequest, Replay, ReplayOptions},
    view::{ExitGroups, Group},
};

/// All exits up to a time.
pub type Moment = (ExitGroups, ExitReading);

/// What numbers are called.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "test-api",
    expect(missing_debug_implementations, reason = "a function has no text")
)]
pub struct ExitNames<'a> {
    /// How exits are timed: the formats have names in them.
    pub pairing: &'a TimingRequest,
    /// The name of a process's VM.
    pub vm: &'a dyn Fn(u32) -> String,
}

/// Where reports go.
pub trait ExitsOutput {
    /// What rows are grouped by.
    fn by(&self) -> &[Group];

    /// Writes what came between two moments.
    ///
    /// # Errors
    /// When writing fails.
    fn report(
        &mut self,
        span: Span,
        earlier: &Moment,
        now: &Moment,
        names: ExitNames<'_>,
    ) -> anyhow::Result<()>;

    /// Writes a slow exit as it ends.
    ///
    /// # Errors
    /// When writing fails.
    fn slow(&mut self, exit: &SlowExit, names: ExitNames<'_>) -> anyhow::Result<()>;

    /// Everything that was written is to be seen.
    ///
    /// # Errors
    /// When writing fails.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Times the running kernel's exits until the schedule says that it is over.
///
/// # Errors
/// When the kernel cannot be read or the output not be written.
pub async fn live(
    live: &mut Live,
    pairing: &TimingRequest,
    schedule: &mut Schedule,
    output: &mut impl ExitsOutput,
) -> anyhow::Result<()> {
    schedule.watch_threads(live.notices_fd()?)?;
    let mut rings = live.take_rings();
    let mut intervals = Intervals::new(Moment::default());
    loop {
        tokio::select! {
            biased;
            due = schedule.next() => match due? {
                Due::Threads => live.handle_notices()?,
                Due::Refresh => live.update_threads()?,
                Due::Interval => {
                    let now = read(pairing, output, |each| live.read_exits(each))?;
                    let vm = |tgid| live.names().display_name(tgid).to_owned();
                    let names = ExitNames { pairing, vm: &vm };
                    intervals.end_interval(&now, |earlier, now| {
                        output.report(Span::Interval, earlier, now, names)
                    })?;
                }
                Due::End => break,
            },
            () = ready(&mut rings) => {}
        }
        // Whatever it was that came: it may come again before the rings are waited for.
        slow(&mut rings, live, pairing, output)?;
    }
    live.stop()?;
    // Nothing is added any more: what the rings hold has an end.
    while slow(&mut rings, live, pairing, output)? == Drained::Part {}
    let now = read(pairing, output, |each| live.read_exits(each))?;
    let vm = |tgid| live.names().display_name(tgid).to_owned();
    let names = ExitNames { pairing, vm: &vm };
    if schedule.has_intervals() {
        intervals.end_interval(&now, |earlier, now| {
            output.report(Span::Interval, earlier, now, names)
        })?;
    }
    output.report(Span::Total, intervals.first(), &now, names)
}

/// Slow exits may have been reported; never, if none are requested.
async fn ready(rings: &mut Option<Rings>) {
    match rings {
        Some(rings) => rings.ready().await,
        None => std::future::pending().await,
    }
}

/// Writes slow exits that have been reported.
fn slow(
    rings: &mut Option<Rings>,
    live: &mut Live,
    pairing: &TimingRequest,
    output: &mut impl ExitsOutput,
) -> anyhow::Result<Drained> {
    let Some(rings) = rings else {
        return Ok(Drained::All);
    };
    let drained = drain(
        rings,
        || true,
        |_, read| {
            // Of VMs not seen before, the names must be read while they live.
            live.handle_notices()?;
            let records = read.batch.records();
            for exit in records.filter_map(|(_, record)| record.slow_exit()) {
                if live.is_selected(exit.header.tgid) {
                    let names = live.names();
                    let vm = |pid| names.display_name(names.latest(pid)).to_owned();
                    output.slow(&exit, ExitNames { pairing, vm: &vm })?;
                }
            }
            Ok::<_, anyhow::Error>(())
        },
    )?;
    output.flush()?;
    Ok(drained)
}

/// Times a recording's exits.
///
/// # Errors
/// When the recording cannot be read, exits not be timed, or the output not be written.
pub fn recorded(
    recording: Recording,
    replay: ReplayOptions,
    options: &PlaybackOptions,
    shows_progress: bool,
    output: &mut impl ExitsOutput,
) -> anyhow::Result<RecordingSummary> {
    let pairing = replay.timing.clone();
    let pairing = &pairing;
    let has_slow = pairing.slow_threshold.is_some();
    let mut replay = Replay::new(replay)?;
    let mut intervals = Intervals::new(Moment::default());
    let summary = play(recording, options, shows_progress, |item, context| {
        replay.add_item(item);
        if !has_slow && matches!(item, StreamItem::Event(_)) {
            return Ok(());
        }
        let vm = |tgid| context.names.vm_name(tgid);
        let names = ExitNames { pairing, vm: &vm };
        if has_slow {
            for exit in replay.drain_slow_exits() {
                output.slow(&exit, names)?;
            }
        }
        if let StreamItem::IntervalEnd { .. } = item {
            let mut now = read(pairing, output, |each| {
                Ok::<_, Infallible>(replay.read_exits(each))
            })?;
            now.1.loss = now.1.loss.plus(context.loss);
            intervals.end_interval(&now, |earlier, now| {
                output.report(Span::Interval, earlier, now, names)
            })?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    replay.advance(summary.end_ns);
    let mut now = read(pairing, output, |each| {
        Ok::<_, Infallible>(replay.read_exits(each))
    })?;
    now.1.loss = now.1.loss.plus(&summary.loss);
    let vm = |tgid| summary.names.vm_name(tgid);
    let names = ExitNames { pairing, vm: &vm };
    output.report(Span::Total, intervals.first(), &now, names)?;
    Ok(summary)
}

/// Groups what a source gives.
fn read<E: std::error::Error + Send + Sync + 'static>(
    pairing: &TimingRequest,
    output: &impl ExitsOutput,
    exits: impl FnOnce(&mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, E>,
) -> anyhow::Result<Moment> {
    let kind: Option<&EventKind> = pairing.counted_event.as_ref().map(|it| &it.kind);
    let mut groups = ExitGroups::new(output.by(), kind);
    let reading = exits(&mut |exits| groups.add(exits))?;
    groups.add_vcpus(&reading.vcpus);
    Ok((groups, reading))
}
