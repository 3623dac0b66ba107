//! `kvm-collector convert`.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::{
    Common, INCOMPLETE,
    ending::duration,
    playback,
    selection::{Events, Reasons, Target},
    timing,
};
use crate::{
    convert::{
        Columns, Conversion, ConvertError, Csv, Done, Parquet, Perfetto, Rows, Sink, Text, play,
    },
    source::{Recording, ReplayOptions},
    tracefs::Format,
};

/// Make of a recording what other tools read
///
/// perfetto: a trace for ui.perfetto.dev, with a thread for each vCPU and slices for the guest and for exits.
/// parquet, csv: a row for each exit or event, for DuckDB, pandas, spreadsheets. json, text: lines as `trace`
/// writes them. What is missing from the recording is said, and is in the result. The columns are in
/// docs/convert.md.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data --to perfetto -o kvm.pftrace
  kvm-collector convert -i kvm.data --to parquet -o exits.parquet
  kvm-collector convert -i kvm.data --to parquet --rows events -o events.parquet
  kvm-collector convert -i kvm.data --to csv --vm web-1 --reason 'hlt,npf' -o exits.csv
  kvm-collector convert -i kvm.data --to json --rows events -e kvm_exit -o exits.json")]
pub(super) struct ConvertArgs {
    /// The recording, of `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,

    /// What to make of it
    #[arg(long, value_name = "TARGET")]
    to: To,

    /// What a row is
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "exits",
        help_heading = "Output"
    )]
    rows: RowsOf,

    /// Write to this file; - is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: PathBuf,

    /// End with exit code 3 if anything is missing from the recording
    #[arg(long, help_heading = "Output")]
    strict: bool,

    /// Only so much of the recording, from its first event on
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Selection")]
    duration: Option<Duration>,

    #[command(flatten)]
    events: Events,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    reasons: Reasons,
}

/// What a recording can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    /// A trace for ui.perfetto.dev
    Perfetto,
    /// A table with typed columns
    Parquet,
    /// An object per line, as `trace --json`
    Json,
    /// A line per row, with the columns of parquet
    Csv,
    /// A line per event or exit, as `trace`
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RowsOf {
    /// Each exit
    Exits,
    /// Each event, of those that -e chooses
    Events,
}

pub(super) fn run(args: &ConvertArgs, common: Common) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(&args.input)?;
    let conversion = conversion(args, &recording)?;
    if is_same_file(&args.input, &args.output) {
        bail!(
            "{} is the recording itself: choose another file for the result",
            args.output.display()
        );
    }
    let mut sink = sink(args, &recording, &conversion)?;
    let done = match play(recording, conversion, &mut *sink, progress(common)) {
        Err(ConvertError::Write(error)) => {
            let file = args.output.display();
            return Err(error).with_context(|| format!("cannot write to {file}"));
        }
        done => done?,
    };
    drop(sink);
    if !common.quiet {
        say_end(args, &done);
    }
    playback::report_end(&done.ended, &args.target, &args.input)?;
    Ok(if args.strict && !done.ended.loss.is_none() {
        ExitCode::from(INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// What is to be played.
fn conversion(args: &ConvertArgs, recording: &Recording) -> anyhow::Result<Conversion> {
    let formats = recording.formats();
    let mut selection = args.target.of_recording()?;
    let exit = formats
        .iter()
        .find(|it| it.system == "kvm" && it.name == "kvm_exit");
    selection.filter.reasons = args.reasons.codes(exit)?;
    let as_trace_does = matches!(args.to, To::Json | To::Text);
    let of_exits = args.to == To::Perfetto || args.rows == RowsOf::Exits;
    let (chosen, exits) = if of_exits && !as_trace_does {
        let (chosen, options) = timing_of(formats, &args.input)?;
        (chosen, Some(options))
    } else {
        let needed: &[&str] = match args.rows {
            RowsOf::Exits => &["kvm_exit", "kvm_entry"],
            RowsOf::Events => &[],
        };
        (args.events.among(formats, needed, &args.input)?, None)
    };
    for warning in chosen.iter().filter_map(Format::print_warning) {
        log::warn!("{warning}");
    }
    Ok(Conversion {
        formats: chosen,
        selection,
        exits,
        limit_ns: args
            .duration
            .map(|it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)),
    })
}

/// The events that exits are made of, as far as they are there.
fn timing_of(formats: &[Format], input: &Path) -> anyhow::Result<(Vec<Format>, ReplayOptions)> {
    let find = |system: &str, name: &str| {
        let is_it = |it: &&Format| it.system == system && it.name == name;
        Ok(formats.iter().find(is_it).cloned())
    };
    let (exit, entry) = (find("kvm", "kvm_exit")?, find("kvm", "kvm_entry")?);
    if exit.is_none() || entry.is_none() {
        let there: Vec<_> = formats.iter().map(|it| it.event().to_string()).collect();
        bail!(
            "{} has no kvm_exit and kvm_entry events, which exits are made of: it has {}",
            input.display(),
            there.join(", ")
        );
    }
    let switch = find("sched", "sched_switch")?.is_some();
    let pairing = timing::pairing(&find, None, switch)?;
    let needed = [
        &pairing.exit,
        &pairing.user,
        &pairing.wakeup,
        &pairing.switch,
        &entry,
        &find("sched", "sched_process_exit")?,
    ];
    let chosen = needed.into_iter().flatten().cloned().collect();
    Ok((chosen, ReplayOptions::new(pairing, entry)))
}

/// One of each kind of target.
fn sink(
    args: &ConvertArgs,
    recording: &Recording,
    conversion: &Conversion,
) -> anyhow::Result<Box<dyn Sink>> {
    let catalog = recording.catalog();
    // When it was by the wall, if the recording's clock is the one it says that of.
    let clocks = catalog
        .clocks
        .filter(|it| catalog.clock() == Some(it.0))
        .map(|it| (it.1, it.2));
    let exit = recording
        .formats()
        .iter()
        .find(|it| it.system == "kvm" && it.name == "kvm_exit")
        .cloned();
    let columns = match args.rows {
        RowsOf::Exits => Columns::Exits,
        RowsOf::Events => Columns::Events,
    };
    let offset_ns = clocks.map(|(wall_ns, time_ns)| wall_ns.wrapping_sub(time_ns));
    let out = open(&args.output)?;
    Ok(match args.to {
        To::Perfetto => Box::new(Perfetto::new(exit, catalog.clock(), clocks, out)?),
        To::Parquet => {
            let table = Parquet::new(columns, out)?;
            Box::new(Rows::new(exit, offset_ns, table))
        }
        To::Csv => {
            let table = Csv::new(columns, out)?;
            Box::new(Rows::new(exit, offset_ns, table))
        }
        To::Json | To::Text => {
            let json = args.to == To::Json;
            Box::new(Text::new(columns, &conversion.formats, json, out))
        }
    })
}

fn open(path: &Path) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
    let out: Box<dyn Write + Send> = if path == Path::new("-") {
        Box::new(io::stdout())
    } else {
        let file = File::create(path);
        Box::new(file.with_context(|| format!("cannot write to {}", path.display()))?)
    };
    Ok(BufWriter::with_capacity(256 << 10, out))
}

/// Would the result be written over the recording?
fn is_same_file(input: &Path, output: &Path) -> bool {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    }
}

/// The summary on stderr.
fn say_end(args: &ConvertArgs, done: &Done) {
    let loss = &done.ended.loss;
    let mut text = format!("{} events read", done.events);
    if done.exits > 0 {
        text += &format!(", {} exits", done.exits);
    }
    text += &format!(", {} events lost", loss.lost);
    if loss.unmatched > 0 {
        text += &format!(", {} exits without a time", loss.unmatched);
    }
    if done.ended.late > 0 {
        text += &format!(", {} out of order", done.ended.late);
    }
    if loss.unattributed > 0 {
        text += &format!(
            ", {} left out because their thread's vCPU is not known",
            loss.unattributed
        );
    }
    eprintln!("kvm-collector: {}: {text}", args.output.display());
}

/// Says on a terminal how far it is.
fn progress(common: Common) -> impl FnMut(u64, u64) {
    const EVERY: Duration = Duration::from_millis(200);
    let shown = !common.quiet && io::stderr().is_terminal();
    let mut last = Instant::now();
    move |events: u64, time_ns: u64| {
        if shown && last.elapsed() >= EVERY {
            last = Instant::now();
            let seconds = Duration::from_nanos(time_ns).as_secs_f64();
            // The next line is written over it.
            eprint!("{events} events, {seconds:.1} s of the recording\x1b[K\r");
        }
    }
}
