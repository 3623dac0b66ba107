//! `kvm-collector record`.

mod summary;

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    event_stream::stream_options,
    global::{EXIT_INCOMPLETE, GlobalOptions},
    no_match,
    number::parse_number,
    sandbox,
    selection::{EventArgs, ReasonArgs, TargetArgs},
    size::{
        QUEUE_BYTES, parse_file_bytes, parse_memory_bytes, parse_queue_bytes, parse_ring_bytes,
    },
    stop::{OverheadArgs, StopArgs, parse_duration, saturating_ns},
    tracefs::{find_kvm_format, open_tracefs_with_kvm},
    usage::bail_usage,
};
use crate::{
    bounds::{SYSTEM_FILE_BYTES, read_bounded},
    host::{self, clock},
    recording::{
        FlightRecorderOptions, HostFacts, KernelFormats, RecordedEvent, Recorder, RecorderOptions,
    },
    session::{
        print_message,
        record::{RecordSession, RecordSummary},
    },
    source::{Live, LiveOptions},
    timing::{ExitTrigger, Selection},
    tracefs::{Format, Tracefs, kernel_types::KernelTypeTable},
};

/// Write events to a perf.data file
///
/// The file contains each event as the kernel wrote it, and the event formats to decode it on
/// another machine. `stat`, `exits`, `trace` and `convert` read it with -i; so do `perf script`,
/// `perf kvm stat report` and `perf report`. If the collector is killed, the events of the last 0.2
/// seconds are missing, and more if the disk is too slow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector record                               to kvm.data, until Ctrl-C
  kvm-collector record -d 10s -e kvm_exit,kvm_entry --vm web-1 -z
  kvm-collector record --max-size 1G --rotate 4      the last 4 GiB
  kvm-collector record --preempt -d 10s              for preempted time in `exits -i kvm.data`
  kvm-collector record --flight-recorder 10s --trigger 'exit > 1ms'")]
pub(in crate::cli) struct RecordArgs {
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    reasons: ReasonArgs,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    overhead: OverheadArgs,

    /// Also record sched:sched_switch, from which all reports with -i measure preempted time
    ///
    /// Adds an eBPF program to sched_switch, so every context switch on the host costs slightly
    /// more.
    #[arg(long, help_heading = "Selection")]
    preempt: bool,

    /// Write to this file; - is stdout
    ///
    /// An existing file is renamed to FILE.old.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "kvm.data",
        help_heading = "Output"
    )]
    output: PathBuf,

    /// Compress with zstd at this level, 1 to 22; level 1 if LEVEL is omitted
    #[arg(short = 'z', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "1",
        require_equals = true, value_parser = parse_level, help_heading = "Output")]
    compress: Option<i32>,

    /// Stop at this file size (100M, 2G); with --rotate, continue in a new file
    #[arg(long, value_name = "SIZE", value_parser = parse_file_bytes, help_heading = "Output")]
    max_size: Option<u64>,

    /// Keep the last N files: FILE is the newest, FILE.1 the one before
    #[arg(long, value_name = "N", value_parser = parse_rotate, help_heading = "Output")]
    rotate: Option<u32>,

    /// Keep the events of the last TIME in memory; write them at --trigger or SIGUSR1
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "max_size", help_heading = "Output")]
    flight_recorder: Option<Duration>,

    /// Write when this condition holds: 'exit > 1ms' (time of an exit, excluding halted time)
    ///
    /// Writes at most twice per --flight-recorder time. Keeps the last 10 files, or the number given
    /// with --rotate.
    #[arg(long, value_name = "CONDITION", value_parser = ExitTrigger::parse, requires = "flight_recorder", help_heading = "Output")]
    trigger: Option<Duration>,

    /// Maximum memory of the flight recorder; when it is full, the oldest events are dropped
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse_memory_bytes, requires = "flight_recorder", help_heading = "Output")]
    memory: u64,

    /// Size of the ring of each CPU, a power of two (64K, 4M) [default: 64M divided by the number of CPUs, at least 256K, at most 4M]
    #[arg(long, value_name = "SIZE", value_parser = parse_ring_bytes, help_heading = "Output")]
    ring: Option<u32>,

    /// Maximum memory for events that wait to be written
    ///
    /// While a write blocks, the collector continues to read the rings until this memory is full.
    #[arg(long, value_name = "SIZE", default_value = QUEUE_BYTES, value_parser = parse_queue_bytes, help_heading = "Output")]
    buffer: usize,

    /// Exit with code 3 if events were lost
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

/// Number of flight-recorder files to keep if `--rotate` is not given.
const DEFAULT_FLIGHT_FILES: usize = 10;

fn parse_rotate(text: &str) -> Result<u32, String> {
    parse_number(text, 1..=1000)
}

fn parse_level(text: &str) -> Result<i32, String> {
    parse_number(text, 1..=22).map(u32::cast_signed)
}

pub(in crate::cli) async fn run(
    args: RecordArgs,
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        bail_usage!("cannot write a recording to a terminal: give a file with -o, or use a pipe");
    }
    let is_file = !to_stdout && fs::metadata(&args.output).map_or(true, |it| it.is_file());
    if !is_file
        && (args.max_size.is_some() || args.rotate.is_some() || args.flight_recorder.is_some())
    {
        bail_usage!(
            "--max-size, --rotate and --flight-recorder need a regular file: give one with -o"
        );
    }
    if args.rotate.is_some() && args.max_size.is_none() && args.flight_recorder.is_none() {
        bail_usage!("--rotate needs --max-size or --flight-recorder");
    }
    let tracefs = open_tracefs_with_kvm(args.target.no_wait)?;
    let mut selection = args.target.for_running_kernel()?;
    let exit = find_kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref(), host::kvm::isa())?;
    let formats = args.live_events(&tracefs)?;
    args.reasons.check_effect(&formats)?;
    args.reasons
        .warn_about_other_events(&args.events, "recorded", "-e kvm_exit,kvm_entry");
    let flight_recorder = args.flight_recorder.map(|window| FlightRecorderOptions {
        window_ns: saturating_ns(window),
        memory_bytes: args.memory,
    });
    let trigger = args
        .trigger
        .map(|threshold| ExitTrigger::new(threshold, &formats))
        .transpose()?;
    let max_files = args
        .rotate
        .map(|files| files as usize)
        .or(flight_recorder.as_ref().map(|_| DEFAULT_FLIGHT_FILES));
    let options = RecorderOptions {
        path: (!to_stdout).then(|| args.output.clone()),
        zstd_level: args.compress,
        max_file_bytes: args.max_size,
        max_files,
        flight_recorder,
    };
    let recorder = Recorder::new(
        options,
        &read_event_formats(&tracefs, &formats)?,
        &read_host_facts(&tracefs, &formats),
    )
    .with_context(|| format!("cannot write to {}", args.output.display()))?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        logs_programs: global.ebpf_log,
        ..args.live_options(&tracefs, formats, selection)?
    })?;
    let conditions = args.stop.conditions();
    let mut schedule = if to_stdout {
        conditions.start_with_stderr()?
    } else {
        conditions.start(None)?
    };
    sandbox::enter_to_measure(
        &mut live,
        vec![args.output.clone()],
        conditions.has_command(),
        global,
    );
    let session = RecordSession {
        live,
        recorder,
        trigger,
        output: args.output.clone(),
        is_flight_recorder: args.flight_recorder.is_some(),
        queue_bytes: args.buffer,
        quiet: global.quiet,
    };
    let RecordSummary {
        recorded,
        lost,
        is_file_full,
        write_error,
    } = session.run(&mut schedule, overhead.as_ref()).await?;
    if !global.quiet || write_error.is_some() {
        let is_flight_recorder = args.flight_recorder.is_some();
        let text = summary::text(&args.output, is_flight_recorder, recorded, lost);
        print_message(&text);
    }
    if recorded.events == 0 && args.flight_recorder.is_none() {
        let request = no_match::Request {
            requested: no_match::Requested::Events,
            target: &args.target,
            reasons: Some(&args.reasons),
            events: Some(&args.events),
        };
        log::warn!("{}", no_match::explain_live(&request, &[]));
    }
    let command_failed = schedule.finish().await?;
    if let Some(error) = write_error {
        // The summary above has already named the files that were written.
        return Err(anyhow::Error::new(error).context(format!(
            "recording to {} ended early",
            args.output.display()
        )));
    }
    if is_file_full && !global.quiet {
        print_message("the recording ended because --max-size was reached");
    }
    Ok(match (command_failed, args.strict && lost > 0) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(EXIT_INCOMPLETE),
        (false, false) => ExitCode::SUCCESS,
    })
}

impl RecordArgs {
    /// Returns the formats of the selected events and of those that other options need.
    pub(in crate::cli) fn live_events(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.events.formats_with(tracefs, &self.required_events())
    }

    /// Returns what is requested from the running kernel.
    pub(in crate::cli) fn live_options(
        &self,
        tracefs: &Tracefs,
        events: Vec<Format>,
        selection: Selection,
    ) -> anyhow::Result<LiveOptions> {
        stream_options(tracefs, events, selection, self.ring)
    }

    /// Returns the events that other options need even if they are not selected.
    fn required_events(&self) -> Vec<&'static str> {
        let mut events = Vec::new();
        if self.trigger.is_some() {
            events.extend(["kvm:kvm_exit", "kvm:kvm_entry"]);
        }
        if self.preempt {
            events.push("sched:sched_switch");
        }
        events
    }
}

/// Reads the format texts of the events.
fn read_event_formats(tracefs: &Tracefs, formats: &[Format]) -> anyhow::Result<Vec<RecordedEvent>> {
    let event = |format: &Format| {
        Ok(RecordedEvent {
            system: format.system.clone(),
            name: format.name.clone(),
            id: format.id,
            format: tracefs.read_format_text(&format.event_name())?,
        })
    };
    formats.iter().map(event).collect()
}

fn read_host_facts(tracefs: &Tracefs, events: &[Format]) -> HostFacts {
    let mut kernel_types = KernelTypeTable::default();
    for used in events.iter().filter_map(Format::used_types) {
        kernel_types.merge(used);
    }
    // Missing files are left out: the collector does not need them.
    let text = |name: &str| {
        // The kernel returns the whole file only to a read that is large enough.
        let mut text = vec![0; 64 << 10];
        let read = fs::File::open(tracefs.root().join(name)).and_then(|mut it| it.read(&mut text));
        text.truncate(read.unwrap_or(0));
        text
    };
    HostFacts {
        machine: host::machine::read(Path::new("/")),
        command: std::env::args().collect(),
        clocks: clock::real_and_monotonic_ns(),
        kernel_formats: KernelFormats {
            header_page: text("events/header_page"),
            header_event: text("events/header_event"),
            printk_formats: read_bounded(&tracefs.root().join("printk_formats"), SYSTEM_FILE_BYTES)
                .unwrap_or_default(),
        },
        kernel_types,
    }
}
