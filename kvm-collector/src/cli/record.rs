//! `kvm-collector record`.

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{
    common::{Common, INCOMPLETE},
    ending::{EndingArgs, OwnArgs, duration, ns},
    selection::{Events, Reasons, Target, kvm_format, open_tracefs},
    size::{QUEUE_BYTES, bytes, queue_bytes, ring_bytes},
};
use crate::{
    host::{self, clock},
    probe::MapSizes,
    recording::{
        FlightRecorderOptions, HostFacts, KernelFormats, RecordedEvent, Recorder, RecorderOptions,
        RecordingStats,
    },
    session::record::{RecordSession, RecordSummary, in_mib},
    source::{Live, LiveOptions},
    timing::ExitTrigger,
    tracefs::{Format, Tracefs},
};

/// Write events to a perf.data file
///
/// The file holds each event as the kernel wrote it, with what is needed to understand it elsewhere. `stat` and
/// `trace` read it with -i, and so do `perf script`, `perf kvm stat report` and `perf report`. It can be read however
/// the recording ends; a sudden end costs its last 0.2 seconds.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector record                               to kvm.data, until Ctrl-C
  kvm-collector record -d 10s -e kvm_exit,kvm_entry --vm web-1 -z
  kvm-collector record --max-size 1G --rotate 4      the last 4 GiB
  kvm-collector record --flight-recorder 10s --trigger 'exit > 1ms'")]
pub(super) struct RecordArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    reasons: Reasons,
    #[command(flatten)]
    ending: EndingArgs,
    #[command(flatten)]
    own: OwnArgs,

    /// Write to this file; - is stdout. What the file held before is kept as FILE.old
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "kvm.data",
        help_heading = "Output"
    )]
    output: PathBuf,

    /// Compress with zstd, at this level
    #[arg(short = 'z', long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "1",
        require_equals = true, value_parser = clap::value_parser!(i32).range(1..=22), help_heading = "Output")]
    compress: Option<i32>,

    /// End when the file is this long (100M, 2G); with --rotate, go on in a new one
    #[arg(long, value_name = "BYTES", value_parser = max_bytes, help_heading = "Output")]
    max_size: Option<u64>,

    /// Keep the last N files: FILE, FILE.1 before it, and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), help_heading = "Output")]
    rotate: Option<u16>,

    /// Keep only the events of this long in memory, and write them at --trigger or SIGUSR1
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "max_size", help_heading = "Output")]
    flight_recorder: Option<Duration>,

    /// Write when an exit takes longer than this, without halted time: 'exit > 1ms'. At most twice per --flight-recorder
    /// time; the last 10 files are kept, or as many as --rotate says
    #[arg(long, value_name = "WHEN", value_parser = ExitTrigger::parse, requires = "flight_recorder", help_heading = "Output")]
    trigger: Option<Duration>,

    /// Memory of the flight recorder at most; when it is full, the oldest events go
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = memory_bytes, help_heading = "Output")]
    memory: u64,

    /// Size of each CPU's ring (64K, 4M): a power of two [default: 64M divided by the CPUs, from 256K to 4M]
    #[arg(long, value_name = "BYTES", value_parser = ring_bytes, help_heading = "Output")]
    ring: Option<u32>,

    /// Memory for events that wait to be written, at most: while a write stalls, the collector goes on reading the rings
    /// until this is full
    #[arg(long, value_name = "BYTES", default_value = QUEUE_BYTES, value_parser = queue_bytes, help_heading = "Output")]
    buffer: usize,

    /// End with exit code 3 if any event was lost
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

/// Files of the flight recorder that are kept unless told.
const FLIGHT_FILES: usize = 10;

fn max_bytes(text: &str) -> Result<u64, String> {
    // A batch of the ring has to fit, with the formats of all events.
    bytes(text)
        .filter(|it| *it >= 4 << 20)
        .ok_or_else(|| "give 4M or more, such as 100M or 2G".into())
}

fn memory_bytes(text: &str) -> Result<u64, String> {
    bytes(text)
        .filter(|it| *it >= 4 << 20)
        .ok_or_else(|| "give 4M or more, such as 64M or 1G".into())
}

pub(super) async fn run(args: RecordArgs, common: Common) -> anyhow::Result<ExitCode> {
    let stream = args.output == Path::new("-");
    if stream && std::io::stdout().is_terminal() {
        bail!("a recording is nothing to look at: give a file with -o, or a pipe");
    }
    let is_file = !stream && fs::metadata(&args.output).map_or(true, |it| it.is_file());
    if !is_file
        && (args.max_size.is_some() || args.rotate.is_some() || args.flight_recorder.is_some())
    {
        bail!("--max-size, --rotate and --flight-recorder need a file: a pipe takes all, once");
    }
    if args.rotate.is_some() && args.max_size.is_none() && args.flight_recorder.is_none() {
        bail!("--rotate needs --max-size, to know when, or --flight-recorder");
    }
    let tracefs = open_tracefs()?;
    let mut selection = args.target.of_running()?;
    let exit = kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref())?;
    let needed: &[&str] = if args.trigger.is_some() {
        &["kvm_exit", "kvm_entry"]
    } else {
        &[]
    };
    let formats = args.events.formats_and(&tracefs, needed)?;
    let flight = args.flight_recorder.map(|window| FlightRecorderOptions {
        window_ns: ns(window),
        memory_bytes: args.memory,
    });
    let trigger = args
        .trigger
        .map(|above| ExitTrigger::new(above, &formats))
        .transpose()?;
    let keep = args
        .rotate
        .map(usize::from)
        .or(flight.as_ref().map(|_| FLIGHT_FILES));
    let options = RecorderOptions {
        path: (!stream).then(|| args.output.clone()),
        zstd_level: args.compress,
        max_file_bytes: args.max_size,
        max_files: keep,
        flight_recorder: flight,
    };
    let recorder = Recorder::new(options, &recorded(&tracefs, &formats)?, &facts(&tracefs))
        .with_context(|| format!("cannot write to {}", args.output.display()))?;
    let own = args.own.begin()?;
    let live = Live::start(LiveOptions {
        events: formats,
        selection,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        emits_events: true,
        sizes: MapSizes::default().with_rings(args.ring),
        logs_programs: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let session = RecordSession {
        live,
        recorder,
        trigger,
        output: args.output.clone(),
        is_flight_recorder: args.flight_recorder.is_some(),
        queue_bytes: args.buffer,
        quiet: common.quiet,
    };
    let ending = args.ending.ending();
    let mut schedule = if stream {
        ending.begin_off_stdout()?
    } else {
        ending.begin(None)?
    };
    let RecordSummary {
        recorded,
        lost,
        is_full,
        failed,
    } = session.run(&mut schedule, own.as_ref()).await?;
    if !common.quiet || failed.is_some() {
        eprintln!("kvm-collector: {}", summary(&args, recorded, lost));
    }
    let command_failed = schedule.finish().await?;
    if let Some(error) = failed {
        // What was written before has been said.
        return Err(anyhow::Error::new(error).context(format!(
            "recording to {} ended early",
            args.output.display()
        )));
    }
    if is_full && !common.quiet {
        eprintln!("kvm-collector: the recording ended because --max-size was reached");
    }
    Ok(match (command_failed, args.strict && lost > 0) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(INCOMPLETE),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// The texts of the events' formats.
fn recorded(tracefs: &Tracefs, formats: &[Format]) -> anyhow::Result<Vec<RecordedEvent>> {
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

fn facts(tracefs: &Tracefs) -> HostFacts {
    // What is not there is left out; nothing of ours depends on it.
    let text = |name: &str| {
        // The kernel gives these files out with one read, or only their beginning.
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
            printk_formats: fs::read(tracefs.root().join("printk_formats")).unwrap_or_default(),
        },
    }
}

fn summary(args: &RecordArgs, recorded: RecordingStats, lost: u64) -> String {
    let RecordingStats {
        events,
        bytes,
        files,
        ..
    } = recorded;
    let place = if args.output == Path::new("-") {
        "stdout".into()
    } else {
        args.output.display().to_string()
    };
    match files {
        0 if args.flight_recorder.is_some() => {
            "nothing was written: neither --trigger nor SIGUSR1 came".into()
        }
        0 => format!("{events} events recorded to {place}, {lost} lost"),
        1 => format!(
            "{events} events recorded to {place} ({}), {lost} lost",
            in_mib(bytes)
        ),
        _ => format!(
            "{events} events recorded to {files} files, the last of them {place} ({} in all), {lost} lost",
            in_mib(bytes)
        ),
    }
}
