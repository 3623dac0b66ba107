//! `--to html`: one reading of the recording feeds all that the page shows.

use std::io::Write;

use anyhow::{Context as _, bail};

use super::{super::timing, ConvertArgs};
use crate::{
    format::html,
    model::{Counts, Event, Loss},
    recording::Catalog,
    source::{Ended, Names, Played, Recording, Replay, ReplayOptions, Role, Tally},
    tracefs::{Format, ReasonNames},
    view::{
        ExitGroups, ExitsOptions, ExitsReport, Group, KeyNames, Overview, RecordedExits,
        RecordingFacts, SortKey, StatReport, Timeline,
    },
};

pub(super) fn run(args: &ConvertArgs, mut recording: Recording) -> anyhow::Result<Ended> {
    if !args.reasons.is_empty() {
        bail!(
            "--reason chooses rows, and a page has all of them: filter there, or choose another --to"
        );
    }
    let mut formats = args.events.among(recording.formats(), &[], &args.input)?;
    let counted = formats.len();
    let pairing = timing::pairing_of_recording;
    let exits = match timing::of_recording(recording.formats(), &args.input, pairing) {
        Ok((chosen, options)) => {
            let is_new = |it: &Format| !formats.iter().any(|known| known.is(&it.system, &it.name));
            let others: Vec<_> = chosen.into_iter().filter(is_new).collect();
            formats.extend(others);
            Ok(options)
        }
        // The other reasons there are have to do with options that a page has not.
        Err(_) => Err("There are no kvm_exit and kvm_entry events.".to_owned()),
    };
    recording.choose(&formats);
    let selection = args.target.of_recording()?;
    let mut facts = facts(recording.catalog());
    facts.file = match args.input.file_name() {
        Some(name) if args.input.as_os_str() != "-" => name.to_string_lossy().into_owned(),
        _ => "standard input".to_owned(),
    };
    let clocks = recording.catalog().clocks;
    let mut taken = Taken::new(&formats, counted, exits)?;
    let limit_ns = args.limit_ns().unwrap_or(u64::MAX);
    let ended = recording.play(&selection, |played, names| {
        Ok::<_, anyhow::Error>(taken.take(played, names, limit_ns))
    })?;
    facts.began_wall_ns = clocks
        .zip(taken.first.as_ref())
        .map(|((_, wall, time), first)| (wall.saturating_add(first.time_ns)).saturating_sub(time));
    facts.defect = ended.defect.clone();
    facts.late = ended.late;
    // Only now: what cannot be read leaves a file as it was.
    let mut out = args.open()?;
    html::overview(&taken.overview(facts, &formats, &ended), &mut out)
        .and_then(|()| out.flush())
        .with_context(|| args.cannot_write())?;
    Ok(ended)
}

fn facts(catalog: &Catalog) -> RecordingFacts {
    let mut others = Vec::new();
    let mut add = |name, text: Option<String>| others.extend(text.map(|text| (name, text)));
    add("host", catalog.hostname.clone());
    add("kernel", catalog.release.clone());
    add("CPU", catalog.cpu.clone());
    let online = catalog.cpus_online.filter(|it| *it > 0);
    add("CPUs online", online.map(|it| it.to_string()));
    add("recorded by", catalog.version.clone());
    let command = Some(catalog.command.join(" ")).filter(|it| !it.is_empty());
    add("command", command);
    RecordingFacts {
        others,
        ..RecordingFacts::default()
    }
}

/// All that becomes of the events.
struct Taken {
    tally: Tally,
    timeline: Timeline,
    /// Timed exits, with what each format is to them; or why there are none.
    exits: Result<(Replay, Vec<Option<Role>>), String>,
    /// What there was before the first event.
    first: Option<Counts>,
    newest_ns: u64,
}

impl Taken {
    /// Of events of these formats, of which the first ones are counted.
    fn new(
        formats: &[Format],
        counted: usize,
        exits: Result<ReplayOptions, String>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            tally: Tally::new(&formats[..counted], true),
            timeline: Timeline::new(formats),
            exits: match exits {
                Ok(options) => {
                    let replay = Replay::new(options, 0)?;
                    let roles = formats.iter().map(|it| replay.role(it)).collect();
                    Ok((replay, roles))
                }
                Err(why) => Err(why),
            },
            first: None,
            newest_ns: 0,
        })
    }

    /// Takes in what comes next; false when it is beyond the limit.
    fn take(&mut self, played: &Played<'_>, names: &Names, limit_ns: u64) -> bool {
        match played {
            Played::Event(event) => {
                let began_ns = self.first.as_ref().map_or(event.time_ns, |it| it.time_ns);
                if event.time_ns.saturating_sub(began_ns) >= limit_ns {
                    return false;
                }
                self.event(event, names);
            }
            Played::Lost {
                slot,
                lost,
                time_ns,
            } => {
                if let Some(slot) = slot {
                    self.tally.lost(*slot, *lost);
                }
                self.timeline.lost(*slot, *lost, *time_ns);
                if let Ok((replay, roles)) = &mut self.exits {
                    // Where it is known what is missing, and nothing would follow from that, nothing is in doubt.
                    let role = slot.and_then(|slot| roles.get(slot));
                    if role.is_none_or(Option::is_some) {
                        replay.lost(None, *lost);
                    }
                }
            }
        }
        true
    }

    fn event(&mut self, event: &Event<'_>, names: &Names) {
        let first = || self.tally.counts(event.time_ns, names, Loss::default());
        self.first.get_or_insert_with(first);
        self.newest_ns = self.newest_ns.max(event.time_ns);
        self.tally.add(event);
        self.timeline.event(event);
        if let Ok((replay, roles)) = &mut self.exits
            && let Some(role) = roles.get(event.slot).copied().flatten()
        {
            replay.event(role, event);
        }
    }

    fn overview(self, facts: RecordingFacts, formats: &[Format], ended: &Ended) -> Overview {
        let vm_name = |tgid| ended.names.vm(tgid);
        let nothing = || {
            self.tally
                .counts(self.newest_ns, &ended.names, Loss::default())
        };
        let first = self.first.unwrap_or_else(nothing);
        let total = self.tally.counts(self.newest_ns, &ended.names, ended.loss);
        let stat = StatReport::between(first.time_ns, &first, &total);
        let (began_ns, end_ns) = (first.time_ns, self.newest_ns);
        let exits = self.exits.map(|(mut replay, _)| {
            // The last event need not be one that exits are made of.
            replay.advance(end_ns);
            exits(&mut replay, formats, end_ns - began_ns, &vm_name)
        });
        Overview {
            facts,
            stat,
            exits,
            timeline: self.timeline.report(&vm_name),
        }
    }
}

fn exits(
    replay: &mut Replay,
    formats: &[Format],
    elapsed_ns: u64,
    vm_name: &dyn Fn(u32) -> String,
) -> RecordedExits {
    let mut rows = ExitGroups::new(&[Group::Vm, Group::Vcpu, Group::Reason], None);
    let mut reasons = ExitGroups::new(&[Group::Reason], None);
    let reading = replay.exits(&mut |exits| {
        rows.add(exits);
        reasons.add(exits);
    });
    rows.add_vcpus(&reading.vcpus);
    let is_exit = |it: &&Format| it.is("kvm", "kvm_exit");
    let names = KeyNames {
        reasons: ReasonNames::of(formats.iter().find(is_exit)),
        counted: None,
        causes: Vec::new(),
    };
    let report = |groups, histograms| {
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            reasons: None,
            percentiles: Vec::new(),
            histograms,
            causes: 0,
            advice: false,
            preempt_watched: replay.options().pairing.switch.is_some(),
        };
        let time = (0, elapsed_ns);
        ExitsReport::of(groups, time, reading.loss, &options, &names, vm_name)
    };
    RecordedExits {
        rows: report(&rows, false),
        reasons: report(&reasons, true),
    }
}
