//! Playing a recording once, into a target.

use std::collections::HashMap;

use super::{ConvertError, End, Gap, Sink};
use crate::{
    model::{Event, Loss, Place, Stretch, Whose},
    probe::Filter,
    source::{Ended, Names, Played, Recording, Replay, ReplayOptions, Role, Selection},
    tracefs::{EventName, Format},
};

/// Parts of one exit that are kept at most: a thread that is preempted over and over may have any number.
const MOST_PARTS: usize = 256;

/// What is converted.
#[derive(Debug)]
pub struct Conversion {
    /// The events that are chosen, in the order of their slots.
    pub formats: Vec<Format>,
    /// Of these, what is wanted.
    pub selection: Selection,
    /// How exits are made of the events; without, there are only events.
    pub exits: Option<ReplayOptions>,
    /// Only so much of it, from the first event on.
    pub limit_ns: Option<u64>,
}

/// What was converted.
#[derive(Debug)]
pub struct Done {
    /// How the recording ended. Its loss is of all that was asked for, exits too.
    pub ended: Ended,
    /// Events read.
    pub events: u64,
    /// Exits handed over; `None` if only events were asked for.
    pub exits: Option<u64>,
}

/// Plays a recording into a target. `progress` is told now and then how many events there were, and how much time.
///
/// # Errors
/// When the recording cannot be read, or the target not be written.
pub fn play(
    mut recording: Recording,
    conversion: Conversion,
    sink: &mut dyn Sink,
    mut progress: impl FnMut(u64, u64),
) -> Result<Done, ConvertError> {
    recording.choose(&conversion.formats);
    let names_of_events: Vec<_> = conversion.formats.iter().map(Format::event).collect();
    let mut course = Course {
        timing: None,
        options: conversion.exits,
        formats: conversion.formats,
        wanted: Selection::default(),
        vms: HashMap::new(),
        parts: HashMap::new(),
        began_ns: None,
        last_ns: 0,
        events: 0,
        exits: 0,
        sink,
    };
    let mut selection = conversion.selection;
    let of_exits = course.options.is_some();
    if of_exits {
        // A vCPU is put on a CPU by an event of whatever thread ran there before: of the events, none is left out.
        std::mem::swap(&mut course.wanted, &mut selection);
    }
    let limit_ns = conversion.limit_ns.unwrap_or(u64::MAX);
    let mut ended = recording.play(&selection, |played, names| {
        match played {
            Played::Event(event) => {
                let began_ns = *course.began_ns.get_or_insert(event.time_ns);
                if event.time_ns.saturating_sub(began_ns) >= limit_ns {
                    return Ok::<_, ConvertError>(false);
                }
                course.event(event, names)?;
                if course.events.is_multiple_of(4096) {
                    progress(course.events, event.time_ns.saturating_sub(began_ns));
                }
            }
            Played::Lost {
                slot,
                lost,
                time_ns,
            } => course.lost(slot.and_then(|it| names_of_events.get(it)), *lost, *time_ns)?,
        }
        Ok(true)
    })?;
    let loss = course.end(&ended)?;
    ended.loss = loss;
    Ok(Done {
        ended,
        events: course.events,
        exits: of_exits.then_some(course.exits),
    })
}

/// A recording as far as it has been played.
struct Course<'a> {
    timing: Option<Timing>,
    /// Until the first event, whose time it begins with.
    options: Option<ReplayOptions>,
    formats: Vec<Format>,
    /// Whose exits are wanted.
    wanted: Selection,
    /// Of which VMs exits are wanted, as far as they have been seen.
    vms: HashMap<u32, bool>,
    /// Of threads' exits that are not over.
    parts: HashMap<u32, Vec<Stretch>>,
    began_ns: Option<u64>,
    last_ns: u64,
    events: u64,
    exits: u64,
    sink: &'a mut dyn Sink,
}

struct Timing {
    replay: Replay,
    /// What is made of each event chosen.
    roles: Vec<Option<Role>>,
    over: Vec<Stretch>,
}

impl Course<'_> {
    fn event(&mut self, event: &Event<'_>, names: &Names) -> Result<(), ConvertError> {
        self.events += 1;
        self.last_ns = self.last_ns.max(event.time_ns);
        if let Some(options) = self.options.take() {
            let mut replay = Replay::new(options, event.time_ns)?;
            replay.keep_stretches();
            self.timing = Some(Timing {
                roles: self.formats.iter().map(|it| replay.role(it)).collect(),
                replay,
                over: Vec::new(),
            });
        }
        let Some(timing) = &mut self.timing else {
            return Ok(self.sink.event(event, &self.formats, names)?);
        };
        if let Some(Some(role)) = timing.roles.get(event.slot) {
            timing.replay.event(*role, event);
            self.hand_over(names)?;
        }
        Ok(())
    }

    /// Hands over what is over by now.
    fn hand_over(&mut self, names: &Names) -> Result<(), ConvertError> {
        let Some(timing) = &mut self.timing else {
            return Ok(());
        };
        let mut over = std::mem::take(&mut timing.over);
        over.extend(timing.replay.stretches());
        for stretch in &over {
            self.stretch(stretch, names)?;
        }
        over.clear();
        if let Some(timing) = &mut self.timing {
            timing.over = over;
        }
        Ok(())
    }

    fn stretch(&mut self, stretch: &Stretch, names: &Names) -> Result<(), ConvertError> {
        if !self.is_wanted(&stretch.whose, names) {
            return Ok(());
        }
        match &stretch.place {
            Place::Guest => self.sink.guest(stretch, names)?,
            Place::Part(_) => {
                let parts = self.parts.entry(stretch.whose.tid).or_default();
                if parts.len() < MOST_PARTS {
                    parts.push(*stretch);
                }
            }
            Place::Exit(exit) => {
                let reasons = &self.wanted.filter.reasons;
                let parts = self.parts.entry(stretch.whose.tid).or_default();
                if reasons
                    .as_ref()
                    .is_none_or(|it| it.iter().any(|code| u64::from(*code) == exit.key.code))
                {
                    self.exits += 1;
                    parts.sort_by_key(|it| (it.from_ns, std::cmp::Reverse(it.to_ns)));
                    self.sink.exit(stretch, parts, names)?;
                }
                parts.clear();
            }
        }
        Ok(())
    }

    fn is_wanted(&mut self, whose: &Whose, names: &Names) -> bool {
        let Filter {
            tgids, tids, vcpus, ..
        } = &self.wanted.filter;
        let vms = &self.wanted.vms;
        let by_vm = || {
            if tgids.is_empty() && vms.is_empty() {
                return true;
            }
            let name = names.vm(whose.tgid);
            tgids.contains(&whose.tgid) || vms.iter().any(|it| it.is_match(&name))
        };
        (tids.is_empty() || tids.contains(&whose.tid))
            && (vcpus.is_empty() || vcpus.contains(&whose.vcpu))
            && *self.vms.entry(whose.tgid).or_insert_with(by_vm)
    }

    fn lost(
        &mut self,
        event: Option<&EventName>,
        lost: u64,
        time_ns: u64,
    ) -> Result<(), ConvertError> {
        if let Some(timing) = &mut self.timing {
            timing.replay.lost(None, lost);
        }
        self.last_ns = self.last_ns.max(time_ns);
        Ok(self.sink.gap(&Gap {
            lost,
            event,
            time_ns,
        })?)
    }

    /// Hands over what is not over, and says what is missing.
    fn end(&mut self, ended: &Ended) -> Result<Loss, ConvertError> {
        let mut loss = ended.loss;
        if let Some(timing) = &mut self.timing {
            timing.replay.advance(self.last_ns);
            timing.replay.end_stretches();
            let counted = timing.replay.exits(&mut |_| {}).loss;
            // What the recording says to be lost is in both.
            loss.unmatched = counted.unmatched;
            loss.map_full = counted.map_full;
            loss.unattributed = loss.unattributed.max(counted.unattributed);
            self.hand_over(&ended.names)?;
        }
        self.sink.finish(&End {
            time_ns: self.last_ns,
            loss: &loss,
            defect: ended.defect.as_deref(),
        })?;
        Ok(loss)
    }
}
