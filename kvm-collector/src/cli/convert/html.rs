//! `--to html`: reads the recording once and collects everything that the page shows.

use std::{io::Write, time::Duration};

use anyhow::Context as _;

use super::{
    super::{
        event_formats::EventFormats, global::GlobalOptions, origin::known_name,
        stop::saturating_ns, timing, usage::bail_usage,
    },
    args::{ConvertArgs, Converted, Selected},
    output_files::Output,
};
use crate::{
    format::{html, units::exact_duration},
    model::{ExitReading, StreamItem, VmName},
    session,
    source::{PlaybackOptions, Recording, RecordingSummary},
    timing::{Replay, ReplayOptions, TimingRequest, vcpus_are_named},
    tracefs::Format,
    view::{
        EventCounter, ExitGroups, ExitsOptions, ExitsReport, GroupBy, KeyNames, Overview,
        RecordedExits, RecordingFacts, SlowestExits, SortKey, StatReport, Timeline,
    },
};

/// Number of slowest exits on the page.
const SLOWEST_EXITS: usize = 20;

/// Maximum number of causes below a row, as in `exits --causes`.
const CAUSES: usize = 5;

pub(super) fn run(
    args: &ConvertArgs,
    output: &Output,
    mut recording: Recording,
    global: GlobalOptions,
) -> anyhow::Result<Converted> {
    if !args.reasons.is_empty() {
        bail_usage!(
            "--reason cannot be used with --to html: the page always has all reasons. Filter its tables in the browser, or use another --to"
        );
    }
    let mut formats = args
        .events
        .select_from(recording.formats(), &[], &args.input)?;
    let counted = formats.len();
    let exits = match timing::replay_options(recording.formats(), &args.input, timing_request) {
        Ok((timing_formats, _)) if recording.is_sampled(&timing_formats) => {
            Err("The recording contains only a sample of the events.".to_owned())
        }
        Ok((timing_formats, mut options)) => {
            let is_new = |it: &Format| {
                !formats
                    .iter()
                    .any(|known| known.is_event(&it.system, &it.name))
            };
            let others: Vec<_> = timing_formats.into_iter().filter(is_new).collect();
            formats.extend(others);
            options.formats.clone_from(&formats);
            Ok(options)
        }
        // Other errors are about options that `--to html` does not have.
        Err(_) => Err("There are no kvm_exit and kvm_entry events.".to_owned()),
    };
    recording.select_events(&formats);
    recording.identify_vms();
    let options = PlaybackOptions {
        selection: args.target.for_recording()?,
        limits: args.limits(recording.metadata())?,
        without_raw: false,
    };
    let selected = Selected {
        formats: formats[..counted].to_vec(),
        codes: None,
        is_part: options.limits.is_part(),
    };
    let mut facts = recording_facts(args, &recording);
    let mut page = PageData::new(&formats, counted, exits)?;
    let summary = session::read_recording(recording, &options, !global.quiet, |item, context| {
        page.add_item(item, context.is_before_range);
        Ok::<_, anyhow::Error>(())
    })?;
    facts.defect = summary.defect.clone();
    let overview = page.overview(facts, &summary);
    let loss = overview.loss();
    let mut out = args.open(output)?;
    html::write_overview(&overview, &mut out)
        .and_then(|()| out.flush())
        .with_context(|| args.write_error())?;
    Ok(Converted {
        summary,
        loss,
        exits_written: None,
        selected,
    })
}

/// Builds the request to time exits by reason, with their causes. All exits pass the threshold of slow
/// exits; [`SlowestExits`] selects from them.
fn timing_request(formats: &EventFormats<'_>) -> anyhow::Result<TimingRequest> {
    Ok(TimingRequest {
        cause_events: timing::default_cause_events(formats)?,
        slow_threshold: Some(Duration::ZERO),
        ..timing::timing_request(formats, None, false)?
    })
}

fn recording_facts(args: &ConvertArgs, recording: &Recording) -> RecordingFacts {
    let metadata = recording.metadata();
    let mut others = Vec::new();
    let mut add = |name, text: Option<String>| {
        let known = text.filter(|it| !it.is_empty());
        others.extend(known.map(|text| (name, text)));
    };
    add("host", known_name(metadata.hostname.clone()));
    add("kernel", metadata.release.clone());
    add("CPU", metadata.cpu.clone());
    let online = metadata.cpus_online.filter(|it| *it > 0);
    add("CPUs online", online.map(|it| it.to_string()));
    add("recorded by", metadata.version.clone());
    add("command", Some(metadata.command.join(" ")));
    add("selection", Some(selection(args)));
    if vcpus_are_named(recording.formats()) {
        add("vCPU numbers", Some("from thread names".to_owned()));
    }
    let file = match args.input.file_name() {
        Some(name) if args.input.as_os_str() != "-" => name.to_string_lossy().into_owned(),
        _ => "standard input".to_owned(),
    };
    RecordingFacts {
        file,
        wall_offset_ns: metadata.wall_offset_ns(),
        details: others,
        defect: None,
    }
}

/// Describes what is selected from the recording. Empty if everything is.
fn selection(args: &ConvertArgs) -> String {
    let mut all = args.selected_by().descriptions();
    if let Some(duration) = args.duration {
        all.push(format!(
            "the first {}",
            exact_duration(saturating_ns(duration))
        ));
    }
    all.join("; ")
}

/// Everything about the events that the page shows.
struct PageData {
    counter: EventCounter,
    timeline: Timeline,
    /// The timed exits, or the reason why exits cannot be timed.
    exits: Result<Replay, String>,
    slowest: SlowestExits,
    /// The exits before the requested range of the recording, by each of [`GROUPINGS`].
    before: Option<Vec<ExitGroups>>,
}

impl PageData {
    /// Creates the collector for events of these formats. The first ones are counted.
    fn new(
        formats: &[Format],
        counted: usize,
        exits: Result<ReplayOptions, String>,
    ) -> anyhow::Result<Self> {
        let mut exits = match exits {
            Ok(options) => Ok(Replay::new(options)?),
            Err(why) => Err(why),
        };
        if let Ok(replay) = &mut exits {
            replay.log_segments();
        }
        Ok(Self {
            counter: EventCounter::new(&formats[..counted], true),
            timeline: Timeline::default(),
            exits,
            slowest: SlowestExits::new(SLOWEST_EXITS),
            before: None,
        })
    }

    fn add_item(&mut self, item: &StreamItem<'_>, is_before_range: bool) {
        if !is_before_range {
            self.counter.add_item(item);
            self.timeline.add_item(item);
        }
        if let Ok(replay) = &mut self.exits {
            replay.add_item(item);
            for exit in replay.drain_slow_exits() {
                if !is_before_range {
                    self.slowest.add(&exit);
                }
            }
            for segment in replay.drain_segments() {
                match is_before_range {
                    true => self.timeline.skip_segment(&segment),
                    false => self.timeline.add_segment(&segment),
                }
            }
            if let StreamItem::RangeStart { .. } = item {
                let groupings = 0..GROUPINGS.len();
                self.before = Some(groupings.map(|it| read_groups(replay, it).0).collect());
            }
        }
    }

    fn overview(mut self, facts: RecordingFacts, summary: &RecordingSummary) -> Overview {
        let vm_name = |tgid| summary.names.vm_name(tgid);
        let (start_ns, end_ns) = summary.period_ns.unwrap_or_default();
        let total = self.counter.counts(end_ns, &vm_name, summary.loss);
        let total = total.with_vms_marked(|tgid| summary.names.is_vm(tgid));
        let stat = StatReport::since_start(start_ns, &total);
        if let Ok(replay) = &mut self.exits {
            // The last event may not be selected, so the replay may be at an earlier time.
            replay.advance(end_ns);
            replay.finish_segments();
            for segment in replay.drain_segments() {
                self.timeline.add_segment(&segment);
            }
        }
        match summary.period_ns {
            Some(_) => self.timeline.end_at(end_ns),
            // A loss does not make a period.
            None => self.timeline = Timeline::default(),
        }
        let (elapsed_ns, slowest) = (end_ns.saturating_sub(start_ns), &self.slowest);
        let before = self.before.as_deref();
        let exits = self
            .exits
            .map(|mut replay| exit_reports(&mut replay, before, slowest, elapsed_ns, &vm_name));
        Overview {
            facts,
            stat,
            exits,
            timeline: self.timeline.report(&vm_name),
        }
    }
}

/// The keys that the rows of the tables are grouped by: all exits, the exits of each VM, and reasons.
const GROUPINGS: [&[GroupBy]; 3] = [
    &[GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason],
    &[GroupBy::Vm, GroupBy::Reason],
    &[GroupBy::Reason],
];

/// Reads all exits and groups them by one of [`GROUPINGS`].
fn read_groups(replay: &mut Replay, grouping: usize) -> (ExitGroups, ExitReading) {
    let mut groups = ExitGroups::new(GROUPINGS[grouping], None);
    let timing = replay.options().timing.clone();
    let names = KeyNames::new(&timing);
    let reading = replay.read_exits(&mut |exits| groups.add_exits(exits, |key| names.is_halt(key)));
    groups.add_vcpus(&reading.vcpus);
    (groups, reading)
}

fn exit_reports(
    replay: &mut Replay,
    before: Option<&[ExitGroups]>,
    slowest: &SlowestExits,
    elapsed_ns: u64,
    vm_name: &dyn Fn(u32) -> VmName,
) -> RecordedExits {
    let timing = replay.options().timing.clone();
    let names = KeyNames::new(&timing);
    let plain = ExitsOptions {
        sort: SortKey::Time,
        top: None,
        percentiles: Vec::new(),
        histograms: false,
        causes: 0,
        advice: false,
        preempt_watched: timing.switch.is_some(),
    };
    // Groups take much more memory than rows, so each grouping is read separately.
    let mut report = |grouping, options: &ExitsOptions| {
        let (mut groups, reading) = read_groups(replay, grouping);
        if let Some(before) = before.and_then(|it| it.get(grouping)) {
            groups = groups.since_range_start(before);
        }
        let time = (0, elapsed_ns);
        ExitsReport::from_groups(&groups, time, reading.loss, options, &names, vm_name)
    };
    RecordedExits {
        rows: report(
            0,
            &ExitsOptions {
                causes: CAUSES,
                ..plain.clone()
            },
        ),
        vms: report(
            1,
            &ExitsOptions {
                sort: SortKey::Cost,
                causes: 1,
                advice: true,
                ..plain.clone()
            },
        ),
        reasons: report(
            2,
            &ExitsOptions {
                histograms: true,
                ..plain.clone()
            },
        ),
        slowest: slowest.rows(&names, vm_name),
    }
}
