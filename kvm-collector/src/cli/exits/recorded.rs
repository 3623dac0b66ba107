//! From a recording: its time goes from its first event to its last.

use std::{convert::Infallible, path::Path, process::ExitCode, time::Duration};

use super::{
    super::{
        Common, playback,
        timing::{self, Find},
    },
    ExitsArgs,
    writer::{Called, Moment, Writer},
};
use crate::{
    model::{Event, Loss},
    source::{Names, Played, Recording, Replay, ReplayOptions, Role, VmNames},
    tracefs::Format,
};

pub(super) fn run(args: &ExitsArgs, path: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::open(path)?;
    let pairing = |find: &Find<'_>| args.pairing(find);
    let (chosen, options) = timing::of_recording(recording.formats(), path, pairing)?;
    let pairing = &options.pairing;
    let reasons = args.reasons.codes(pairing.exit.as_ref())?;
    let writer = args.writer(reasons, pairing, common)?;
    recording.choose(&chosen);
    let selection = args.target.of_recording()?;
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut course = Course {
        interval_ns: args.interval.map(ns),
        duration_ns: args.ending.duration().map(ns),
        slow: args.slow.is_some(),
        options: Some(options),
        chosen,
        running: None,
        writer,
        out: args.output.open()?,
    };
    let ended = recording.play(&selection, |played, names| course.take(played, names))?;
    let mut reading = course.finish()?;
    // What the recording lacks is known now that all of it was read.
    let counted = reading.1.loss;
    reading.1.loss = ended.loss;
    reading.1.loss.unmatched = counted.unmatched;
    reading.1.loss.map_full = counted.map_full;
    reading.1.loss.unattributed = ended.loss.unattributed.max(counted.unattributed);
    let loss = course.total(&reading, &ended.names)?;
    playback::report_end(&ended, &args.target, path)?;
    Ok(args.output.exit_code(&loss))
}

/// A recording as far as it has been read.
struct Course<W> {
    interval_ns: Option<u64>,
    duration_ns: Option<u64>,
    slow: bool,
    /// Until the first event, whose time it begins with.
    options: Option<ReplayOptions>,
    chosen: Vec<Format>,
    running: Option<Running>,
    writer: Writer,
    out: W,
}

struct Running {
    replay: Replay,
    /// What is made of each event chosen.
    roles: Vec<Option<Role>>,
    began_ns: u64,
    last: Moment,
    last_ns: u64,
}

impl<W: std::io::Write> Course<W> {
    fn take(&mut self, played: &Played<'_>, names: &Names) -> anyhow::Result<bool> {
        let event = match played {
            Played::Event(event) => event,
            Played::Lost { lost, .. } => {
                if let Some(running) = &mut self.running {
                    running.replay.lost(None, *lost);
                }
                return Ok(true);
            }
        };
        self.begin(event)?;
        let Some(running) = &mut self.running else {
            return Ok(true);
        };
        let vm = |tgid| name_of(names, tgid);
        let since_ns = event.time_ns.saturating_sub(running.began_ns);
        if self.duration_ns.is_some_and(|it| since_ns >= it) {
            return Ok(false);
        }
        // All intervals that this event is behind of.
        while let Some(interval_ns) = self.interval_ns
            && event.time_ns.saturating_sub(running.last_ns) >= interval_ns
        {
            running.last_ns += interval_ns;
            running.replay.advance(running.last_ns);
            let now = read(&self.writer, &mut running.replay);
            let called = Called {
                pairing: Some(&running.replay.options().pairing),
                vm: &vm,
            };
            self.writer
                .write(&running.last, &now, called, &mut self.out)?;
            running.last = now;
        }
        if let Some(Some(role)) = running.roles.get(event.slot) {
            running.replay.event(*role, event);
        }
        if self.slow {
            let exits: Vec<_> = running.replay.slow_exits().collect();
            let called = Called {
                pairing: Some(&running.replay.options().pairing),
                vm: &vm,
            };
            for exit in exits {
                self.writer.slow(&exit, called, &mut self.out)?;
            }
        }
        Ok(true)
    }

    fn begin(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        if let Some(options) = self.options.take() {
            let replay = Replay::new(options, event.time_ns)?;
            self.running = Some(Running {
                roles: self.chosen.iter().map(|it| replay.role(it)).collect(),
                replay,
                began_ns: event.time_ns,
                last: Moment::default(),
                last_ns: event.time_ns,
            });
        }
        Ok(())
    }
}

impl<W: std::io::Write> Course<W> {
    /// All exits, at the end.
    fn finish(&mut self) -> anyhow::Result<Moment> {
        if let Some(options) = self.options.take() {
            // There was no event at all.
            self.running = Some(Running {
                replay: Replay::new(options, 0)?,
                roles: Vec::new(),
                began_ns: 0,
                last: Moment::default(),
                last_ns: 0,
            });
        }
        let running = self.running.as_mut();
        Ok(running.map_or_else(Moment::default, |it| read(&self.writer, &mut it.replay)))
    }

    /// Writes the total, and says what is missing from it.
    fn total(&mut self, all: &Moment, names: &Names) -> anyhow::Result<Loss> {
        if self.interval_ns.is_some() {
            self.writer.total(&mut self.out)?;
        }
        let Some(running) = &self.running else {
            return Ok(Loss::default());
        };
        let vm = |tgid| name_of(names, tgid);
        let called = Called {
            pairing: Some(&running.replay.options().pairing),
            vm: &vm,
        };
        let report = self
            .writer
            .write(&Moment::default(), all, called, &mut self.out)?;
        self.out.flush()?;
        Ok(report.loss)
    }
}

fn read(writer: &Writer, replay: &mut Replay) -> Moment {
    let counted = replay.options().pairing.counted.as_ref();
    let kind = counted.map(|it| it.kind.clone());
    let read = writer.read(kind.as_ref(), |each| {
        Ok::<_, Infallible>(replay.exits(each))
    });
    match read {
        Ok(moment) => moment,
        Err(never) => match never {},
    }
}

fn name_of(names: &Names, tgid: u32) -> String {
    match tgid {
        0 => VmNames::default().get(0).to_owned(),
        tgid => names.vm(tgid),
    }
}
