//! `kvm-collector trace`.

use std::{io::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    Common,
    ending::{Ending, Happened, duration},
    output::{self, color},
    own::OwnArgs,
    playback::{self, Input, Playback},
    selection::{Events, Reasons, Target, kvm_format},
    size::ring_bytes,
};
use crate::{
    host::clock,
    model::{Counts, Event, Loss},
    probe::MapSizes,
    source::{Live, LiveOptions, Ordered, Played, WINDOW_NS},
    tracefs::{Format, Tracefs},
    view::{Clock, Filters, SpanOptions, Spans, TraceFormat, TraceLines},
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
    ending: Ending,
    #[command(flatten)]
    own: OwnArgs,

    #[command(flatten)]
    reasons: Reasons,

    /// Only events whose fields are so, as ftrace's filters: 'kvm_pio.port == 0x3f8 && rw == 1'; other
    /// events pass. Can be given more than once
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

    /// End with exit code 3 if any event was lost
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
const OF_SPANS: &[&str] = &["kvm_exit", "kvm_entry"];

pub(super) async fn run(args: TraceArgs, common: Common) -> anyhow::Result<ExitCode> {
    if let Some(path) = args.input.input.clone() {
        return of_recording(&args, &path, common);
    }
    let tracefs = Tracefs::find_or_mount()?;
    let mut filter = args.target.filter()?;
    let exit = kvm_format(&tracefs, "kvm_exit")?;
    filter.reasons = args.reasons.codes(exit.as_ref())?;
    let events = args.events.formats_and(&tracefs, args.needed())?;
    let offset_ns = || Ok(clock::real_ns().saturating_sub(clock::monotonic_ns()));
    let mut printer = Printer::new(&args, &events, common, offset_ns)?;
    let mut out = output::open(args.output.as_ref())?;
    let own = args.own.begin()?;
    let mut live = Live::begin(LiveOptions {
        events,
        filter,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        ship: true,
        sizes: MapSizes::default().with_rings(args.ring),
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut rings = live.take_rings().context("nothing is shipped")?;
    let mut ordered = Ordered::default();
    let mut course = args.ending.begin(None)?;
    loop {
        tokio::select! {
            biased;
            happened = course.next() => match happened? {
                Happened::End => break,
                Happened::LookAround | Happened::Interval => {
                    live.look_around()?;
                    printer.lines.lost(&live.events()?, clock::monotonic_ns(), &mut out)?;
                }
            },
            () = rings.ready() => {}
        }
        let until_ns = clock::monotonic_ns() - WINDOW_NS;
        // As much as there is, but not for ever: on a busy host there is always more.
        for _ in 0..8 {
            let batch = rings.drain();
            if batch.is_empty() {
                break;
            }
            ordered.take_in(batch);
        }
        ordered.give_out(until_ns, |event, comm| {
            printer.event(event, &live.options().events, comm, &mut out)
        })?;
        out.flush()?;
    }
    live.end()?;
    loop {
        let batch = rings.drain();
        let last = batch.is_empty();
        ordered.take_in(batch);
        let until_ns = if last { u64::MAX } else { live.began_ns() };
        ordered.give_out(until_ns, |event, comm| {
            printer.event(event, &live.options().events, comm, &mut out)
        })?;
        if last {
            break;
        }
    }
    let Counts {
        events,
        time_ns,
        loss,
        ..
    } = live.counts()?;
    printer.lines.lost(&events, time_ns, &mut out)?;
    out.flush()?;
    if !common.quiet {
        say_end(&args, printer.lines.printed(), ordered.late(), &loss);
    }
    if let Some(own) = own {
        own.say(&live)?;
    }
    let failed = course.finish().await?;
    Ok(match (failed, args.strict && !loss.is_none()) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(super::INCOMPLETE),
        (false, false) => ExitCode::SUCCESS,
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
        playback.recording.catalog().clock(),
        playback.recording.catalog().clocks,
    );
    let offset_ns = || match clocks {
        Some((of, wall_ns, time_ns)) if clock == Some(of) => Ok(wall_ns.saturating_sub(time_ns)),
        _ => anyhow::bail!(
            "{} does not say when its clock began, which --time wall needs: `kvm-collector record` does, and `perf record -k mono`",
            path.display()
        ),
    };
    let formats = &playback.formats;
    let mut printer = Printer::new(args, formats, common, offset_ns)?;
    let mut out = output::open(args.output.as_ref())?;
    let names: Vec<_> = formats.iter().map(Format::event).collect();
    let limit_ns = args
        .ending
        .duration()
        .map(|it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
    let mut began_ns = None;
    let ended = playback
        .recording
        .play(&playback.selection, |played, threads| {
            match played {
                Played::Event(event) => {
                    let began_ns = *began_ns.get_or_insert(event.time_ns);
                    if limit_ns.is_some_and(|it| event.time_ns.saturating_sub(began_ns) >= it) {
                        return Ok::<_, anyhow::Error>(false);
                    }
                    printer.event(event, formats, threads.comm(event.tid), &mut out)?;
                }
                Played::Lost {
                    slot,
                    lost,
                    time_ns,
                } => {
                    let event = slot.and_then(|slot| names.get(slot));
                    printer.lines.gap(*lost, event, *time_ns, &mut out)?;
                }
            }
            Ok(true)
        })?;
    out.flush()?;
    if !common.quiet {
        say_end(args, printer.lines.printed(), ended.late, &ended.loss);
    }
    playback::report_end(&ended, &args.target, path)?;
    Ok(if args.strict && !ended.loss.is_none() {
        ExitCode::from(super::INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// The summary on stderr.
fn say_end(args: &TraceArgs, printed: u64, late: u64, loss: &Loss) {
    let what = if args.per_exit { "exits" } else { "events" };
    let mut text = format!("{printed} {what} printed, {} events lost", loss.lost);
    if late > 0 {
        text += &format!(", {late} printed out of order");
    }
    if loss.unattributed > 0 {
        text += &format!(
            ", {} left out because their thread's vCPU is not known",
            loss.unattributed
        );
    }
    eprintln!("kvm-collector: {text}");
}

/// What becomes of an event.
struct Printer {
    lines: TraceLines,
    spans: Option<Spans>,
    filters: Filters,
}

impl TraceArgs {
    fn needed(&self) -> &'static [&'static str] {
        if self.per_exit || self.min_duration.is_some() {
            OF_SPANS
        } else {
            &[]
        }
    }
}

impl Printer {
    /// `offset_ns` is from the clock of the events to the wall's.
    fn new(
        args: &TraceArgs,
        formats: &[Format],
        common: Common,
        offset_ns: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Self> {
        let filters = Filters::new(&args.filters, formats)?;
        for warning in formats.iter().filter_map(Format::print_warning) {
            log::warn!("{warning}");
        }
        let json = args.json || args.format == OutputFormat::Json;
        let format = match (json, args.fields) {
            (true, _) => TraceFormat::Json,
            (false, true) => TraceFormat::Fields,
            (false, false) => TraceFormat::Kernel,
        };
        let colored = color(common.color, args.output.is_none());
        let clock = match args.time {
            Time::Mono => Clock::Mono,
            Time::Delta => Clock::Delta,
            Time::Wall => Clock::Wall {
                offset_ns: offset_ns()?,
            },
        };
        let spans = (!args.needed().is_empty()).then(|| {
            let min_ns = args
                .min_duration
                .map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
            let options = SpanOptions {
                min_ns,
                per_exit: args.per_exit,
                json,
            };
            Spans::new(formats, options)
        });
        Ok(Self {
            lines: TraceLines::new(formats.len(), format, clock, colored),
            spans,
            filters,
        })
    }

    fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        comm: &str,
        out: &mut impl std::io::Write,
    ) -> std::io::Result<()> {
        if !self.filters.pass(event.slot, event.raw) {
            return Ok(());
        }
        match &mut self.spans {
            Some(spans) => spans.event(event, formats, comm, &mut self.lines, out),
            None => self.lines.event(event, formats, comm, out),
        }
    }
}
