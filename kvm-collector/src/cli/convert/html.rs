//! `--to html`: reads the recording once and collects everything that the page shows.

use std::io::Write;

use anyhow::Context as _;

use super::{
    super::{global::GlobalOptions, timing, usage::bail_usage},
    args::{ConvertArgs, Converted},
};
use crate::{
    format::html,
    model::StreamItem,
    recording::Metadata,
    session,
    source::{PlaybackOptions, Recording, RecordingSummary},
    timing::{Replay, ReplayOptions},
    tracefs::{Format, ReasonNames},
    view::{
        EventCounter, ExitGroups, ExitsOptions, ExitsReport, GroupBy, KeyNames, Overview,
        RecordedExits, RecordingFacts, SortKey, StatReport, Timeline,
    },
};

pub(super) fn run(
    args: &ConvertArgs,
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
    let request = timing::recorded_timing_request;
    let exits = match timing::replay_options(recording.formats(), &args.input, request) {
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
    let options = PlaybackOptions {
        selection: args.target.for_recording()?,
        limits: args.limits(),
        without_raw: false,
    };
    let mut facts = recording_facts(recording.metadata());
    facts.file = match args.input.file_name() {
        Some(name) if args.input.as_os_str() != "-" => name.to_string_lossy().into_owned(),
        _ => "standard input".to_owned(),
    };
    let clocks = recording.metadata().wall_and_event_ns();
    let mut page = PageData::new(&formats, counted, exits)?;
    let summary = session::read_recording(recording, &options, !global.quiet, |item, _| {
        page.add_item(item);
        Ok::<_, anyhow::Error>(())
    })?;
    facts.start_wall_ns = clocks
        .zip(summary.start_ns)
        .map(|((wall_ns, event_ns), start_ns)| {
            wall_ns.saturating_add(start_ns).saturating_sub(event_ns)
        });
    facts.defect = summary.defect.clone();
    let overview = page.overview(facts, &formats, &summary);
    let loss = overview.loss();
    let (output, mut out) = args.open()?;
    html::write_overview(&overview, &mut out)
        .and_then(|()| out.flush())
        .with_context(|| args.write_error())?;
    Ok(Converted {
        summary,
        loss,
        output,
    })
}

fn recording_facts(metadata: &Metadata) -> RecordingFacts {
    let mut others = Vec::new();
    let mut add = |name, text: Option<String>| others.extend(text.map(|text| (name, text)));
    add("host", metadata.hostname.clone());
    add("kernel", metadata.release.clone());
    add("CPU", metadata.cpu.clone());
    let online = metadata.cpus_online.filter(|it| *it > 0);
    add("CPUs online", online.map(|it| it.to_string()));
    add("recorded by", metadata.version.clone());
    let command = Some(metadata.command.join(" ")).filter(|it| !it.is_empty());
    add("command", command);
    RecordingFacts {
        details: others,
        ..RecordingFacts::default()
    }
}

/// Everything about the events that the page shows.
struct PageData {
    counter: EventCounter,
    timeline: Timeline,
    /// The timed exits, or the reason why exits cannot be timed.
    exits: Result<Replay, String>,
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
        })
    }

    fn add_item(&mut self, item: &StreamItem<'_>) {
        self.counter.add_item(item);
        self.timeline.add_item(item);
        if let Ok(replay) = &mut self.exits {
            replay.add_item(item);
            for segment in replay.drain_segments() {
                self.timeline.add_segment(&segment);
            }
        }
    }

    fn overview(
        mut self,
        facts: RecordingFacts,
        formats: &[Format],
        summary: &RecordingSummary,
    ) -> Overview {
        let vm_name = |tgid| summary.names.vm_name(tgid);
        let end_ns = summary.end_ns;
        let start_ns = summary.start_ns.unwrap_or(end_ns);
        let total = self.counter.counts(end_ns, &vm_name, summary.loss);
        let stat = StatReport::since_start(start_ns, &total);
        if let Ok(replay) = &mut self.exits {
            // The last event may not be used for timing, so the replay may be at an earlier time.
            replay.advance(end_ns);
            replay.finish_segments();
            for segment in replay.drain_segments() {
                self.timeline.add_segment(&segment);
            }
        }
        let exits = self
            .exits
            .map(|mut replay| exit_reports(&mut replay, formats, end_ns - start_ns, &vm_name));
        Overview {
            facts,
            stat,
            exits,
            timeline: self.timeline.report(&vm_name),
        }
    }
}

fn exit_reports(
    replay: &mut Replay,
    formats: &[Format],
    elapsed_ns: u64,
    vm_name: &dyn Fn(u32) -> String,
) -> RecordedExits {
    let mut rows = ExitGroups::new(&[GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason], None);
    let mut reasons = ExitGroups::new(&[GroupBy::Reason], None);
    let reading = replay.read_exits(&mut |exits| {
        rows.add_exits(exits);
        reasons.add_exits(exits);
    });
    rows.add_vcpus(&reading.vcpus);
    let is_exit = |it: &&Format| it.is_event("kvm", "kvm_exit");
    let names = KeyNames {
        reasons: ReasonNames::new(formats.iter().find(is_exit)),
        counted_event: None,
        cause_events: Vec::new(),
    };
    let report = |groups, histograms| {
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            percentiles: Vec::new(),
            histograms,
            causes: 0,
            advice: false,
            preempt_watched: replay.options().timing.switch.is_some(),
        };
        let time = (0, elapsed_ns);
        ExitsReport::from_groups(groups, time, reading.loss, &options, &names, vm_name)
    };
    RecordedExits {
        rows: report(&rows, false),
        reasons: report(&reasons, true),
    }
}
