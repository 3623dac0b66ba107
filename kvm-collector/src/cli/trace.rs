//! `kvm-collector trace`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    common::{Common, INCOMPLETE},
    ending::{EndingArgs, OwnArgs, duration, ns},
    output::{self, color},
    playback::{self, Input, Playback},
    selection::{Events, Reasons, Target, kvm_format, open_tracefs},
    size::{QUEUE_BYTES, queue_bytes, ring_bytes},
};
use crate::{
    host::clock,
    model::Loss,
    probe::MapSizes,
    session::{
        self,
        trace::{PrintOptions, Printer, TraceSummary},
    },
    source::{Live, LiveOptions, PlaybackOptions},
    tracefs::Format,
    view::{Clock, ExitLineOptions, Filters, TraceFormat},
};

/// Print every event, in the kernel's own words
///
/// A line an event, as `cat trace_pipe` prints them: thread, CPU, time in seconds of CLOCK_MONOTONIC,
/// event, and what the kernel says of it. Events that did not fit into a CPU's ring are reported
/// where they are missing: how many, and of which event.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector trace                             all kvm events until Ctrl-C
  kvm-collector trace -e kvm_exit,kvm_pio --vm web-1 --vcpu 0
  kvm-collector trace -i kvm.data --per-exit      from a recording
  kvm-collector trace --json -d 1s -e 'kvmmmu:*'")]
pub(super) struct TraceArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ending: EndingArgs,
    #[command(flatten)]
    own: OwnArgs,

    #[command(flatten)]
    reasons: Reasons,

    /// Filter events by their fields (ftrace syntax): 'kvm_pio.port == 0x3f8 && rw == 1'. Events without these
    /// fields are not affected. Can be given more than once
    #[arg(long = "filter", value_name = "FILTER", help_heading = "Selection")]
    filters: Vec<String>,

    /// Only exits that took at least this long (100us), with what happened inside them
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Selection")]
    min_duration: Option<Duration>,

    /// One line per exit: reason, duration, and what happened inside
    #[arg(long, conflicts_with = "fields", help_heading = "Output")]
    per_exit: bool,

    /// Which time to show
    #[arg(
        long,
        value_name = "CLOCK",
        default_value = "mono",
        help_heading = "Output"
    )]
    time: Time,

    /// How to write events
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    format: OutputFormat,

    /// Short for --format json: one object per line
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    json: bool,

    /// name=value of each field, instead of the kernel's own words
    #[arg(long, help_heading = "Output")]
    fields: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<std::path::PathBuf>,

    /// Size of each CPU's ring (64K, 4M): a power of two [default: 64M divided by the CPUs, from 256K to 4M]
    #[arg(long, value_name = "BYTES", value_parser = ring_bytes, conflicts_with = "input", help_heading = "Output")]
    ring: Option<u32>,

    /// Memory for events that wait to be written, at most: while a write stalls, the collector goes on reading the rings
    /// until this is full
    #[arg(long, value_name = "BYTES", default_value = QUEUE_BYTES, value_parser = queue_bytes, conflicts_with = "input", help_heading = "Output")]
    buffer: usize,

    /// End with exit code 3 if anything is missing: events were lost, or exits have no time
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Text,
    /// One object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Time {
    /// Seconds of CLOCK_MONOTONIC
    Mono,
    /// Date and time of day, UTC
    Wall,
    /// Seconds since the line before
    Delta,
}

/// Events that a view of whole exits needs, whether chosen or not.
const OF_EXITS: &[&str] = &["kvm_exit", "kvm_entry"];

pub(super) async fn run(args: TraceArgs, common: Common) -> anyhow::Result<ExitCode> {
    if let Some(path) = args.input.input.clone() {
        return of_recording(&args, &path, common);
    }
    let tracefs = open_tracefs()?;
    let mut selection = args.target.of_running()?;
    let exit = kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref())?;
    let events = args.events.formats_and(&tracefs, args.needed())?;
    let offset_ns = || Ok(clock::real_offset_ns());
    let printer = args.printer(&events, common, false, offset_ns)?;
    let out = output::open(args.output.as_ref())?;
    let own = args.own.begin()?;
    let mut live = Live::start(LiveOptions {
        events,
        selection,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        emits_events: true,
        sizes: MapSizes::default().with_rings(args.ring),
        logs_programs: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut schedule = args.ending.ending().begin(None)?;
    let summary = session::trace::live(&mut live, &mut schedule, printer, out, args.buffer).await?;
    if !common.quiet {
        say_end(&args, &summary);
    }
    if let Some(own) = own {
        own.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.exit_code(&summary.loss)
    })
}

/// The same from a recording.
fn of_recording(args: &TraceArgs, path: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let playback = Playback::open(
        path,
        &args.events,
        args.needed(),
        &args.target,
        Some(&args.reasons),
    )?;
    let (clock, clocks) = (
        playback.recording.metadata().sample_clock(),
        playback.recording.metadata().clock_pair,
    );
    let offset_ns = || match clocks {
        Some((of, wall_ns, time_ns)) if clock == Some(of) => Ok(wall_ns.saturating_sub(time_ns)),
        _ => anyhow::bail!(
            "{} does not say when its clock began, which --time wall needs: `kvm-collector record` does, and `perf record -k mono`",
            path.display()
        ),
    };
    let formats = &playback.formats;
    let is_sampled = playback.recording.is_sampled(formats);
    let mut printer = args.printer(formats, common, is_sampled, offset_ns)?;
    let mut out = output::open(args.output.as_ref())?;
    let options = PlaybackOptions {
        limits: args.ending.limits(None),
        ..playback.options
    };
    let shows_progress = !common.quiet && args.output.is_some();
    let (summary, recording) = session::trace::recorded(
        playback.recording,
        &options,
        shows_progress,
        &mut printer,
        &mut out,
    )?;
    if !common.quiet {
        say_end(args, &summary);
    }
    playback::report_end(&recording, &args.target, path)?;
    Ok(args.exit_code(&summary.loss))
}

/// The summary on stderr.
fn say_end(args: &TraceArgs, summary: &TraceSummary) {
    let TraceSummary {
        printed,
        loss,
        in_progress,
    } = summary;
    let what = if args.per_exit { "exits" } else { "events" };
    let mut text = format!("{printed} {what} printed, {} events lost", loss.lost);
    for entry in loss.entries() {
        match entry.count {
            Some(count) if count > 0 && entry.name != "lost" => {
                text += &format!("; {count} {}", entry.meaning);
            }
            _ => {}
        }
    }
    if *in_progress > 0 {
        text += &format!("; {in_progress} exits were still in progress at the end");
    }
    eprintln!("kvm-collector: {text}");
}

impl TraceArgs {
    fn needed(&self) -> &'static [&'static str] {
        if self.is_by_exit() { OF_EXITS } else { &[] }
    }

    /// Are exits printed as a whole?
    fn is_by_exit(&self) -> bool {
        self.per_exit || self.min_duration.is_some()
    }

    fn exit_code(&self, loss: &Loss) -> ExitCode {
        if self.strict && !loss.is_empty() {
            ExitCode::from(INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// `offset_ns` is from the clock of the events to the wall's.
    fn printer(
        &self,
        formats: &[Format],
        common: Common,
        is_sampled: bool,
        offset_ns: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Printer> {
        let filters = Filters::new(&self.filters, formats)?;
        for warning in formats.iter().filter_map(Format::print_warning) {
            log::warn!("{warning}");
        }
        let json = self.json || self.format == OutputFormat::Json;
        let format = match (json, self.fields) {
            (true, _) => TraceFormat::Json,
            (false, true) => TraceFormat::Fields,
            (false, false) => TraceFormat::Kernel,
        };
        let clock = match self.time {
            Time::Mono => Clock::Mono,
            Time::Delta => Clock::Delta,
            Time::Wall => Clock::Wall {
                offset_ns: offset_ns()?,
            },
        };
        let options = PrintOptions {
            format,
            clock,
            colored: color(common.color, self.output.is_none()),
            exits: self.is_by_exit().then(|| ExitLineOptions {
                min_ns: self.min_duration.map_or(0, ns),
                per_exit: self.per_exit,
                json,
                is_sampled,
            }),
        };
        Ok(Printer::new(formats.to_vec(), options, filters)?)
    }
}
