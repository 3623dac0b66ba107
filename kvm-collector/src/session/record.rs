//! Writing the running kernel's events to files.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Due, OwnCost, Schedule};
use crate::{
    host::clock,
    model::{Batch, EventCount},
    probe::Rings,
    recording::{Recorded, Recorder, Taken},
    source::{Live, Ordered, WINDOW_NS},
    timing::{Attribution, ExitTrigger},
};

/// Batches that are read at a time: on a busy host there are always more.
const MOST_BATCHES: usize = 8;

/// A live recording.
#[derive(Debug)]
pub struct RecordSession {
    /// The events' source.
    pub live: Live,
    /// The files.
    pub recorder: Recorder,
    /// When the flight recorder writes by itself.
    pub trigger: Option<ExitTrigger>,
    /// Where it writes, as messages name it.
    pub output: PathBuf,
    /// It is the flight recorder, which writes when told to.
    pub is_flight_recorder: bool,
    /// Say nothing on stderr.
    pub quiet: bool,
}

/// What was recorded.
#[derive(Debug)]
pub struct RecordSummary {
    /// Events, bytes and files.
    pub recorded: Recorded,
    /// Events that are not in the files.
    pub lost: u64,
    /// Recording ended because a file may be no longer.
    pub is_full: bool,
    /// Why recording ended early.
    pub failed: Option<std::io::Error>,
}

/// What changes while it goes on.
struct Running {
    live: Live,
    recorder: Recorder,
    rings: Rings,
    trigger: Option<(ExitTrigger, Ordered)>,
    /// Selects by VM name what the kernel side has let through.
    by_name: Option<Attribution>,
    /// Per event, how many losses are in the file.
    lost: Vec<u64>,
    unattributed: u64,
}

impl RecordSession {
    /// Records until the schedule says that it is over, or the file is full. `own_cost` is printed at the end.
    ///
    /// # Errors
    /// When the kernel cannot be read. A failure to write is in the summary, with what was written before.
    pub async fn run(
        self,
        schedule: &mut Schedule,
        own_cost: Option<&OwnCost>,
    ) -> anyhow::Result<RecordSummary> {
        let mut progress = Progress::new(self.quiet);
        let began = Instant::now();
        let mut live = self.live;
        schedule.watch_threads(live.notices_fd()?)?;
        let rings = live.take_rings().context("nothing is shipped")?;
        let formats = &live.options().events;
        let selection = live.options().selection.after_kernel_filter();
        let mut running = Running {
            trigger: self
                .trigger
                .map(|it| (it, Ordered::new(formats, selection.clone()))),
            by_name: selection
                .is_by_name()
                .then(|| Attribution::new(formats.iter().map(Some), selection)),
            lost: vec![0; formats.len()],
            unattributed: 0,
            live,
            recorder: self.recorder,
            rings,
        };
        let mut usr1 = signal(SignalKind::user_defined1())?;
        let mut failed = None;
        let mut is_full = false;
        while !is_full && failed.is_none() {
            let mut taken = Ok(Taken::In);
            tokio::select! {
                biased;
                due = schedule.next() => match due? {
                    Due::End => break,
                    Due::Threads => running.live.learn()?,
                    Due::Refresh | Due::Interval => {
                        running.live.look_around()?;
                        let events = running.live.events()?;
                        running.record_losses(&events);
                        taken = running.recorder.flush().map(|()| Taken::In);
                        let lost = running.lost.iter().sum();
                        progress.show(began, running.recorder.progress(), lost);
                    }
                },
                _ = usr1.recv() => {
                    taken = if self.is_flight_recorder {
                        running.recorder.dump().map(|()| Taken::Dumped)
                    } else {
                        running.recorder.flush().map(|()| Taken::In)
                    };
                }
                () = running.rings.ready() => {}
            }
            if let Ok(Taken::In) = taken {
                let until_ns = clock::monotonic_ns().saturating_sub(WINDOW_NS);
                taken = running.fire_trigger(until_ns);
            }
            for _ in 0..MOST_BATCHES {
                match taken {
                    Ok(Taken::In) => {}
                    Ok(Taken::Dumped) => progress.say(&format!(
                        "wrote the last events to {}",
                        self.output.display()
                    )),
                    Ok(Taken::Full) => is_full = true,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
                let batch = running.rings.drain();
                if is_full || batch.is_empty() {
                    break;
                }
                taken = running.take(&batch);
            }
        }
        running.live.end()?;
        // What is still in the rings.
        while failed.is_none() && !is_full {
            let batch = running.rings.drain();
            if batch.is_empty() {
                break;
            }
            match running.take(&batch) {
                Ok(taken) => is_full = taken == Taken::Full,
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none()
            && let Err(error) = running.fire_trigger(u64::MAX)
        {
            failed = Some(error);
        }
        let counts = running.live.counts()?;
        running.record_losses(&counts.events);
        let missed = counts.loss.missed.unwrap_or(0);
        if missed > 0 {
            running.recorder.lost(None, missed, counts.time_ns);
        }
        progress.end();
        let recorded = running
            .recorder
            .finish()
            .with_context(|| format!("cannot finish {}", self.output.display()))?;
        let lost = counts.loss.lost
            + missed
            + recorded.left_out
            + counts.loss.unattributed
            + running.unattributed;
        if let Some(own_cost) = own_cost {
            own_cost.print(&running.live)?;
        }
        Ok(RecordSummary {
            recorded,
            lost,
            is_full,
            failed,
        })
    }
}

impl Running {
    /// Records a batch. The trigger sees its events some time later, when they can be put in order.
    fn take(&mut self, batch: &Batch) -> std::io::Result<Taken> {
        for loss in self.rings.take_losses() {
            self.recorder
                .lost_between(loss.cpu, loss.from_ns, loss.to_ns);
            if let Some((_, ordered)) = &mut self.trigger {
                ordered.add_loss(loss.cpu, loss.from_ns, loss.to_ns);
            }
        }
        if let Some((_, ordered)) = &mut self.trigger {
            ordered.add(batch.clone());
        }
        let Some(attribution) = &mut self.by_name else {
            return self.recorder.take_in(batch);
        };
        let live = &self.live;
        let vm_name = |tgid| live.vm_name(tgid);
        let taken = self.recorder.take_in_selected(batch, |record| {
            let header = &record.header;
            let thread = crate::model::Thread {
                tgid: header.tgid,
                tid: header.tid,
            };
            let slot = usize::from(header.slot);
            attribution
                .attribute(slot, thread, record.raw, &vm_name)
                .is_some()
        });
        self.unattributed = attribution.unattributed();
        taken
    }

    /// Shows the trigger the events up to a time, which can be put in order by now.
    fn fire_trigger(&mut self, until_ns: u64) -> std::io::Result<Taken> {
        let Some((trigger, ordered)) = &mut self.trigger else {
            return Ok(Taken::In);
        };
        let live = &self.live;
        let mut fired = false;
        let vm_name = |tgid| live.vm_name(tgid);
        let Ok(()) = ordered.release_until(until_ns, &vm_name, |item, _| {
            fired |= trigger.take(item);
            Ok::<_, std::convert::Infallible>(())
        });
        if fired {
            return self.recorder.fire();
        }
        Ok(Taken::In)
    }

    /// Puts new losses into the file.
    fn record_losses(&mut self, events: &[EventCount]) {
        let now_ns = clock::monotonic_ns();
        for (slot, (event, known)) in events.iter().zip(&mut self.lost).enumerate() {
            let lost = event.lost.saturating_sub(*known);
            if lost > 0 {
                *known = event.lost;
                self.recorder.lost(Some(slot), lost, now_ns);
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rounded for display")]
/// A size as people read it.
#[must_use]
pub fn in_mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// A line on the terminal that says how it goes.
struct Progress {
    on: bool,
    shown: Option<Instant>,
    quiet: bool,
}

impl Progress {
    /// How often it changes.
    const EVERY: Duration = Duration::from_secs(1);

    fn new(quiet: bool) -> Self {
        Self {
            on: !quiet && std::io::stderr().is_terminal(),
            shown: None,
            quiet,
        }
    }

    fn show(&mut self, began: Instant, recorded: Recorded, lost: u64) {
        if self.on && self.shown.is_none_or(|it| it.elapsed() >= Self::EVERY) {
            self.shown = Some(Instant::now());
            eprint!(
                "\r\x1b[K{} s, {} events, {}, {lost} lost",
                began.elapsed().as_secs(),
                recorded.events,
                in_mib(recorded.bytes)
            );
        }
    }

    /// Says something that stays.
    fn say(&mut self, what: &str) {
        self.end();
        if !self.quiet {
            eprintln!("kvm-collector: {what}");
        }
    }

    fn end(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
