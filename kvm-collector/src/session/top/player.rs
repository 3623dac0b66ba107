//! Plays a recording for the screen of `top`: one reading per interval of the recording, at the pace at
//! which the intervals passed.

use std::{io, time::Duration};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{
    super::{read_recording, termination_signals, wait_until},
    before_range::ExitsBeforeRange,
    control::{Control, ControlQueue},
    names::{NameCache, new_reading},
    output::TopOutput,
};
use crate::{
    model::{Loss, StreamItem},
    recording::ReadError,
    source::{PlaybackOptions, RecordedNames, Recording, RecordingSummary},
    timing::{Replay, ReplayOptions, TimingRequest},
    view::{Scope, TopReading},
};

/// Number of items between two checks for requests and signals while an interval is replayed.
const ITEMS_PER_CHECK: u32 = 1 << 14;

/// Reads a whole recording.
///
/// # Errors
/// When the recording cannot be read, or exits cannot be timed.
pub fn read_recording_once(
    recording: Recording,
    options: &PlaybackOptions,
    replay: ReplayOptions,
    shows_progress: bool,
) -> anyhow::Result<(TopReading, RecordingSummary)> {
    let timing = replay.timing.clone();
    let mut replay = Replay::new(replay)?;
    let mut before = ExitsBeforeRange::default();
    let summary = read_recording(recording, options, shows_progress, |item, _| {
        replay.add_item(item);
        before.update(item, &mut replay);
        Ok::<_, ReadError>(())
    })?;
    if let Some((_, end_ns)) = summary.period_ns {
        replay.advance(end_ns);
    }
    let names = &mut NameCache::default();
    let (recorded, loss) = (&summary.names, &summary.loss);
    let mut played = Played {
        replay: &mut replay,
        before: &before,
        timing: &timing,
        names: recorded,
        loss,
    };
    let mut reading = played.read_exits(Scope::default(), names);
    reading.cover_whole_time();
    Ok((reading, summary))
}

/// Plays a recording. It runs in a thread of its own, so keys are handled without delay.
#[derive(Debug)]
pub struct TopPlayer<O> {
    controls: ControlQueue,
    output: O,
    /// Time between two readings.
    pace: Duration,
    /// When the next reading is due.
    next_reading: Instant,
    scope: Scope,
    paused: bool,
    names: NameCache,
    signals: [Signal; 3],
}

/// The replay of a recording up to some time, and what the recording contains besides events.
struct Played<'a> {
    replay: &'a mut Replay,
    before: &'a ExitsBeforeRange,
    timing: &'a TimingRequest,
    names: &'a RecordedNames,
    loss: &'a Loss,
}

impl Played<'_> {
    /// Reads the exits so far and the histograms of a scope.
    fn read_exits(&mut self, scope: Scope, names: &mut NameCache) -> TopReading {
        let timing = self.timing;
        let mut reading = new_reading(scope, Some(timing));
        let mut rest = self.replay.read_exits(&mut |exits| reading.add(exits));
        rest.loss = rest.loss.plus(self.loss);
        let mut reading = reading.finish(rest);
        self.before.subtract_from(&mut reading, timing);
        let recorded = self.names;
        let vm_name = |tgid| Some(recorded.known_vm_name(tgid)?.name);
        names.add_names(&mut reading, Some(timing), &vm_name);
        reading
    }
}

/// Why playing ends before the end of the recording.
enum PlayError {
    /// A signal, or the end of the screen.
    Stopped,
    /// The recording cannot be read.
    Failed(anyhow::Error),
}

impl From<ReadError> for PlayError {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.into())
    }
}

/// What [`TopPlayer::serve`] waits for, besides requests and signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitFor {
    /// Nothing: handle what has arrived.
    Nothing,
    /// The time of the next reading.
    NextReading,
    /// The end of the screen.
    End,
}

/// What has arrived.
enum Arrival {
    Stop,
    Controls(Vec<Control>),
    Time,
}

impl<O: TopOutput> TopPlayer<O> {
    /// Creates the player and installs the signal handlers. `pace` is the time between two readings. Call it
    /// within a runtime, and before the terminal is switched to raw mode: after this call, a signal ends the
    /// player and the terminal can be restored.
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
    pub fn new(pace: Duration, controls: ControlQueue, output: O) -> io::Result<Self> {
        let [interrupt, terminate] = termination_signals()?;
        Ok(Self {
            controls,
            output,
            pace,
            next_reading: Instant::now(),
            scope: Scope::default(),
            paused: false,
            names: NameCache::default(),
            signals: [interrupt, terminate, signal(SignalKind::hangup())?],
        })
    }

    /// Plays until a signal or [`ControlQueue::end`]. The intervals are those of `options`. At the end of the
    /// recording, `check` can reject it.
    ///
    /// Returns the summary of the recording, or `None` if playing was stopped before the end.
    ///
    /// # Errors
    /// When the recording cannot be read, or exits cannot be timed.
    pub fn run(
        mut self,
        runtime: &Runtime,
        recording: Recording,
        options: &PlaybackOptions,
        replay: ReplayOptions,
        check: impl FnOnce(&RecordingSummary) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<RecordingSummary>> {
        let timing = replay.timing.clone();
        let mut replay = Replay::new(replay)?;
        let mut before = ExitsBeforeRange::default();
        let mut items_until_check = ITEMS_PER_CHECK;
        let result = read_recording(recording, options, false, |item, context| {
            replay.add_item(item);
            before.update(item, &mut replay);
            let is_interval_end = matches!(item, StreamItem::IntervalEnd { .. });
            items_until_check -= 1;
            if !is_interval_end && items_until_check > 0 {
                return Ok(());
            }
            items_until_check = ITEMS_PER_CHECK;
            let mut played = Played {
                replay: &mut replay,
                before: &before,
                timing: &timing,
                names: context.names,
                loss: context.loss,
            };
            if !is_interval_end {
                return self.serve(runtime, &mut played, WaitFor::Nothing);
            }
            self.serve(runtime, &mut played, WaitFor::NextReading)?;
            self.send_next_reading(&mut played);
            Ok(())
        });
        let summary = match result {
            Ok(summary) => summary,
            Err(PlayError::Stopped) => return Ok(None),
            Err(PlayError::Failed(error)) => return Err(error),
        };
        check(&summary)?;
        if let Some((_, end_ns)) = summary.period_ns {
            replay.advance(end_ns);
        }
        let mut played = Played {
            replay: &mut replay,
            before: &before,
            timing: &timing,
            names: &summary.names,
            loss: &summary.loss,
        };
        self.output.send_end();
        // The screen shows the last reading, but the user can open its rows.
        match self.serve(runtime, &mut played, WaitFor::End) {
            Ok(()) | Err(PlayError::Stopped) => Ok(Some(summary)),
            Err(PlayError::Failed(error)) => Err(error),
        }
    }

    /// Handles requests and signals until something has happened.
    fn serve(
        &mut self,
        runtime: &Runtime,
        played: &mut Played<'_>,
        wait_for: WaitFor,
    ) -> Result<(), PlayError> {
        loop {
            match self.wait(runtime, wait_for) {
                Arrival::Stop => return Err(PlayError::Stopped),
                Arrival::Time => return Ok(()),
                Arrival::Controls(controls) => {
                    for control in controls {
                        self.apply(control, played);
                    }
                }
            }
        }
    }

    fn wait(&mut self, runtime: &Runtime, wait_for: WaitFor) -> Arrival {
        let until = match wait_for {
            WaitFor::Nothing => Some(Instant::now()),
            WaitFor::NextReading => Some(self.next_reading),
            WaitFor::End => None,
        };
        let [interrupt, terminate, hangup] = &mut self.signals;
        let (controls, paused) = (&self.controls, self.paused);
        let time = async {
            // Signals arrive only while the runtime waits.
            tokio::task::yield_now().await;
            wait_until(until).await;
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => Arrival::Stop,
                _ = terminate.recv() => Arrival::Stop,
                _ = hangup.recv() => Arrival::Stop,
                controls = controls.next() => {
                    controls.map_or(Arrival::Stop, |it| Arrival::Controls(it.collect()))
                }
                () = time, if !paused => Arrival::Time,
            }
        })
    }

    fn apply(&mut self, control: Control, played: &mut Played<'_>) {
        match control {
            Control::SelectScope(scope) => {
                self.scope = scope;
                let reading = self.read(played);
                self.output.send_histograms(Box::new(reading));
            }
            Control::Pause(paused) => {
                self.paused = paused;
                self.next_reading = Instant::now();
            }
            // The intervals of a recording are fixed when it is opened.
            Control::Interval(_) => {}
        }
    }

    fn read(&mut self, played: &mut Played<'_>) -> TopReading {
        played.read_exits(self.scope, &mut self.names)
    }

    fn send_next_reading(&mut self, played: &mut Played<'_>) {
        let reading = self.read(played);
        self.output.send_reading(Box::new(reading));
        // If reading takes longer than an interval, the next readings do not catch up.
        let next = self.next_reading.checked_add(self.pace);
        self.next_reading = next.map_or(self.next_reading, |next| next.max(Instant::now()));
    }
}
