//! `kvm-collector trace`.

mod summary;

use std::{path::Path, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    global::{EXIT_INCOMPLETE, GlobalOptions},
    output::{self, use_color},
    recording::{self, InputArgs, SelectedRecording},
    selection::{EventArgs, ReasonArgs, TargetArgs},
    size::{QUEUE_BYTES, parse_queue_bytes, parse_ring_bytes},
    stop::{OverheadArgs, StopArgs, parse_duration, saturating_ns},
    tracefs::{find_kvm_format, open_tracefs},
    usage::bail_usage,
};
use crate::{
    host::{self, clock},
    model::Loss,
    probe::MapSizes,
    session::{
        self,
        trace::{PrintOptions, Printer},
    },
    source::{Live, LiveOptions, PlaybackOptions},
    tracefs::Format,
    view::{ExitLineOptions, Filters, TraceClock, TraceFormat},
};

/// Print every event as the kernel formats it
///
/// Prints one line per event in the format of trace_pipe: thread, CPU, time in seconds of
/// CLOCK_MONOTONIC, event name and fields. If a CPU's ring overflows, a line at that point reports
/// the number and names of the lost events.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector trace                             all kvm events until Ctrl-C
  kvm-collector trace -e kvm_exit,kvm_pio --vm web-1 --vcpu 0
  kvm-collector trace -i kvm.data --per-exit      from a recording
  kvm-collector trace --json -d 1s -e 'kvmmmu:*'")]
pub(in crate::cli) struct TraceArgs {
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    overhead: OverheadArgs,

    #[command(flatten)]
    reasons: ReasonArgs,

    /// Filter an event by its fields (ftrace syntax): 'kvm_pio.port == 0x3f8 && rw == 1'
    ///
    /// Other events are not affected. This option can be given more than once.
    #[arg(long = "filter", value_name = "EXPR", help_heading = "Selection")]
    filters: Vec<String>,

    /// Select exits that took at least this long (100us), with the events during them
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Selection")]
    min_duration: Option<Duration>,

    /// Print one line per exit: reason, duration and the events during it
    #[arg(long, conflicts_with = "fields", help_heading = "Output")]
    per_exit: bool,

    /// How to print times
    #[arg(
        long,
        value_name = "CLOCK",
        default_value = "mono",
        help_heading = "Output"
    )]
    time: Time,

    /// Output format
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    format: LineFormat,

    /// Same as --format json
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    json: bool,

    /// Print each field as name=value instead of the kernel's format
    #[arg(long, help_heading = "Output")]
    fields: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<std::path::PathBuf>,

    /// Size of the ring of each CPU, a power of two (64K, 4M) [default: 64M divided by the number of CPUs, at least 256K, at most 4M]
    #[arg(long, value_name = "SIZE", value_parser = parse_ring_bytes, conflicts_with = "input", help_heading = "Output")]
    ring: Option<u32>,

    /// Maximum memory for events that wait to be written
    ///
    /// While a write blocks, the collector continues to read the rings until this memory is full.
    #[arg(long, value_name = "SIZE", default_value = QUEUE_BYTES, value_parser = parse_queue_bytes, conflicts_with = "input", help_heading = "Output")]
    buffer: usize,

    /// Exit with code 3 if events were lost or exits could not be timed
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LineFormat {
    /// One line per event or exit, human-readable
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Time {
    /// Seconds of CLOCK_MONOTONIC
    Mono,
    /// Date and time of day, UTC
    Wall,
    /// Seconds since the previous line
    Delta,
}

/// Events that are read for --per-exit and --min-duration even if they are not selected.
const EXIT_EVENTS: &[&str] = &["kvm:kvm_exit", "kvm:kvm_entry"];

pub(in crate::cli) async fn run(
    args: TraceArgs,
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    args.check_options()?;
    if let Some(path) = args.input.input.clone() {
        return run_recorded(&args, &path, global);
    }
    let tracefs = open_tracefs()?;
    let mut selection = args.target.for_running_kernel()?;
    let exit = find_kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref(), host::kvm::isa())?;
    let events = args.events.formats_with(&tracefs, args.required_events())?;
    let offset_ns = || Ok(clock::real_offset_ns());
    let printer = args.printer(&events, global, false, offset_ns)?;
    let out = output::open_output(args.output.as_ref())?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        events,
        selection,
        entry: find_kvm_format(&tracefs, "kvm_entry")?,
        emits_events: true,
        sizes: MapSizes::default().with_rings(args.ring),
        logs_programs: global.ebpf_log,
        ..LiveOptions::default()
    })?;
    let mut schedule = args.stop.conditions().start(None)?;
    let summary = session::trace::live(&mut live, &mut schedule, printer, out, args.buffer).await?;
    if !global.quiet {
        summary::print(&args, &summary);
    }
    summary::warn_if_empty(&args, &summary, None);
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.exit_code(&summary.loss)
    })
}

/// Runs the command on a recording.
fn run_recorded(args: &TraceArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let selected = SelectedRecording::open(
        path,
        &args.events,
        args.required_events(),
        &args.target,
        Some(&args.reasons),
    )?;
    let clocks = selected.recording.metadata().wall_and_event_ns();
    let offset_ns = || match clocks {
        Some((wall_ns, event_ns)) => Ok(wall_ns.saturating_sub(event_ns)),
        None => anyhow::bail!(
            "--time wall: {} does not contain the wall-clock time; recordings of `kvm-collector record` and `perf record -k mono` do",
            path.display()
        ),
    };
    let formats = &selected.formats;
    let is_sampled = selected.recording.is_sampled(formats);
    let mut printer = args.printer(formats, global, is_sampled, offset_ns)?;
    let mut out = output::open_output(args.output.as_ref())?;
    let options = PlaybackOptions {
        limits: args.stop.limits(None),
        ..selected.options.clone()
    };
    let shows_progress = !global.quiet && args.output.is_some();
    let summary = session::trace::recorded(
        selected.recording,
        &options,
        shows_progress,
        &mut printer,
        &mut out,
        |recording| recording::report_end(recording, &args.target, path),
    )?;
    if !global.quiet {
        summary::print(args, &summary);
    }
    let codes = selected.options.selection.filter.reasons.as_deref();
    summary::warn_if_empty(args, &summary, Some((path, codes, formats)));
    Ok(args.exit_code(&summary.loss))
}

impl TraceArgs {
    /// Checks that every option has an effect.
    fn check_options(&self) -> anyhow::Result<()> {
        if self.is_json() && self.fields {
            bail_usage!("--fields cannot be used with JSON output, which always has the fields");
        }
        if self.is_json() && self.time != Time::Mono {
            bail_usage!(
                "--time cannot be used with JSON output, which always has `time_ns` of CLOCK_MONOTONIC"
            );
        }
        Ok(())
    }

    fn is_json(&self) -> bool {
        self.json || self.format == LineFormat::Json
    }

    fn required_events(&self) -> &'static [&'static str] {
        if self.prints_whole_exits() {
            EXIT_EVENTS
        } else {
            &[]
        }
    }

    /// Returns whether whole exits are printed, not single events.
    fn prints_whole_exits(&self) -> bool {
        self.per_exit || self.min_duration.is_some()
    }

    fn exit_code(&self, loss: &Loss) -> ExitCode {
        if self.strict && !loss.is_empty() {
            ExitCode::from(EXIT_INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Creates the printer. `offset_ns` returns the wall-clock time minus the time of the events' clock.
    fn printer(
        &self,
        formats: &[Format],
        global: GlobalOptions,
        is_sampled: bool,
        offset_ns: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Printer> {
        self.reasons.check_effect(formats)?;
        let filters = Filters::new(&self.filters, formats)?;
        summary::warn_about_other_events(self, &filters, formats);
        for warning in formats.iter().filter_map(Format::print_warning) {
            log::warn!("{warning}");
        }
        let json = self.is_json();
        let format = match (json, self.fields) {
            (true, _) => TraceFormat::Json,
            (false, true) => TraceFormat::Fields,
            (false, false) => TraceFormat::Kernel,
        };
        let clock = match self.time {
            Time::Mono => TraceClock::Mono,
            Time::Delta => TraceClock::Delta,
            Time::Wall => TraceClock::Wall {
                offset_ns: offset_ns()?,
            },
        };
        let options = PrintOptions {
            format,
            clock,
            colored: use_color(global.color, self.output.is_none()),
            exits: self.prints_whole_exits().then(|| ExitLineOptions {
                min_ns: self.min_duration.map_or(0, saturating_ns),
                per_exit: self.per_exit,
                json,
                is_sampled,
            }),
        };
        Ok(Printer::new(formats.to_vec(), options, filters)?)
    }
}
