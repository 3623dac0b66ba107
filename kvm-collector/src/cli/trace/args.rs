//! Arguments of `trace`.

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};

use crate::{
    bounds::excerpt,
    cli::{
        global::{EXIT_INCOMPLETE, GlobalOptions},
        no_match,
        output::use_color,
        recording::InputArgs,
        selection::{EventArgs, ReasonArgs, TargetArgs},
        size::{QUEUE_BYTES, parse_queue_bytes, parse_ring_bytes},
        stop::{OverheadArgs, StopArgs, parse_duration, saturating_ns},
        target_format::TargetFormat,
        usage::bail_usage,
    },
    model::Loss,
    session::trace::{PrintOptions, Printer},
    tracefs::Format,
    view::{ExitLineOptions, Filters, ReportOrigin, SelectedBy, TraceClock, TraceFormat},
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
    pub(super) events: EventArgs,
    #[command(flatten)]
    pub(in crate::cli) input: InputArgs,
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) stop: StopArgs,
    #[command(flatten)]
    pub(super) overhead: OverheadArgs,

    #[command(flatten)]
    pub(super) reasons: ReasonArgs,

    /// Filter an event by its fields (ftrace syntax): 'kvm_pio.port == 0x3f8 && rw == 1'
    ///
    /// Other events are not affected. With --per-exit and --min-duration, only fields of kvm_exit
    /// can be used. This option can be given more than once.
    #[arg(long = "filter", value_name = "EXPR", help_heading = "Selection")]
    pub(super) filters: Vec<String>,

    /// Select exits that took at least this long (100us), with the events during them
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Selection")]
    pub(super) min_duration: Option<Duration>,

    /// Print one line per exit: reason, duration and the events during it
    #[arg(long, conflicts_with = "fields", help_heading = "Output")]
    pub(super) per_exit: bool,

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
    pub(super) json: bool,

    /// Print each field as name=value instead of the kernel's format
    #[arg(long, help_heading = "Output")]
    pub(super) fields: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<std::path::PathBuf>,

    /// Size of the ring of each CPU, a power of two (64K, 4M) [default: 64M divided by the number of CPUs, at least 256K, at most 4M]
    #[arg(long, value_name = "SIZE", value_parser = parse_ring_bytes, conflicts_with = "input", help_heading = "Output")]
    pub(super) ring: Option<u32>,

    /// Maximum memory for events that wait to be written
    ///
    /// While a write blocks, the collector continues to read the rings until this memory is full.
    #[arg(long, value_name = "SIZE", default_value = QUEUE_BYTES, value_parser = parse_queue_bytes, conflicts_with = "input", help_heading = "Output")]
    pub(super) buffer: usize,

    /// Exit with code 3 if events were lost or exits could not be timed
    #[arg(long, help_heading = "Output")]
    pub(super) strict: bool,
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

impl TraceArgs {
    /// Checks that every option has an effect.
    pub(super) fn check_options(&self) -> anyhow::Result<()> {
        if self.is_json() && self.fields {
            bail_usage!("--fields cannot be used with JSON output, which always has the fields");
        }
        if self.is_json() && self.time != Time::Mono {
            bail_usage!(
                "--time cannot be used with JSON output, which always has `time_ns` of CLOCK_MONOTONIC"
            );
        }
        let format = match self.is_json() {
            true => TargetFormat::Json,
            false => TargetFormat::Text,
        };
        self.output
            .iter()
            .try_for_each(|path| format.check_suffix(path))
    }

    /// Returns the values of the options that select.
    pub(super) fn selected_by(&self) -> SelectedBy {
        self.input.range.add_to(SelectedBy {
            event: self.events.given(),
            reason: self.reasons.patterns(),
            ..self.target.selected_by()
        })
    }

    fn is_json(&self) -> bool {
        self.json || self.format == LineFormat::Json
    }

    pub(super) fn required_events(&self) -> &'static [&'static str] {
        if self.prints_whole_exits() {
            EXIT_EVENTS
        } else {
            &[]
        }
    }

    /// Returns whether whole exits are printed, not single events.
    pub(super) fn prints_whole_exits(&self) -> bool {
        self.per_exit || self.min_duration.is_some()
    }

    pub(super) fn exit_code(&self, loss: &Loss) -> ExitCode {
        if self.strict && !loss.is_empty() {
            ExitCode::from(EXIT_INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Creates the printer of events of the host that `origin` describes. `offset_ns` returns the wall-clock time minus the time of the events' clock.
    pub(super) fn printer(
        &self,
        formats: &[Format],
        global: GlobalOptions,
        is_sampled: bool,
        origin: ReportOrigin,
        offset_ns: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Printer> {
        self.reasons.check_effect(formats)?;
        let filters = Filters::new(&self.filters, formats)?;
        self.check_filters_of_exits(formats)?;
        self.warn_about_other_events(&filters, formats);
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
        Ok(Printer::new(formats.to_vec(), options, filters, origin)?)
    }

    /// Checks that filters select exits if whole exits are printed: by a field of `kvm_exit`.
    ///
    /// # Errors
    /// When a filter concerns only other events.
    fn check_filters_of_exits(&self, formats: &[Format]) -> anyhow::Result<()> {
        if !self.prints_whole_exits() {
            return Ok(());
        }
        let option = match self.per_exit {
            true => "--per-exit",
            false => "--min-duration",
        };
        let exit = formats.iter().position(|it| it.is_event("kvm", "kvm_exit"));
        for filter in &self.filters {
            let filters = Filters::new(std::slice::from_ref(filter), formats)?;
            if !exit.is_some_and(|slot| filters.concerns(slot)) {
                bail_usage!(
                    "--filter '{}' cannot be used with {option}, which prints whole exits: filter by a field of kvm_exit, select exits with --reason, or print single events without {option}",
                    excerpt(filter)
                );
            }
        }
        Ok(())
    }

    /// Warns that a filter or a selection of exit reasons does not concern all events, unless events are selected.
    fn warn_about_other_events(&self, filters: &Filters, formats: &[Format]) {
        if !self.prints_whole_exits() {
            self.reasons.warn_about_other_events(
                &self.events,
                "shown",
                "-e kvm_exit or --per-exit",
            );
        }
        if self.filters.is_empty() || !self.events.given().is_empty() {
            return;
        }
        let is_concerned = |(slot, format): (usize, &Format)| {
            filters
                .concerns(slot)
                .then(|| format.event_name().to_string())
        };
        let concerned: Vec<_> = formats
            .iter()
            .enumerate()
            .filter_map(is_concerned)
            .collect();
        if concerned.len() == formats.len() {
            return;
        }
        let names = no_match::list(&concerned);
        log::warn!(
            "--filter applies to {names}; all other events are shown, too: select events with -e, such as -e {}",
            concerned.first().map_or("kvm_exit", |it| it.as_str())
        );
    }
}
