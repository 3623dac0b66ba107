//! Arguments of `convert`.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    cli::{
        output_file::CompleteFile,
        selection::{EventArgs, ReasonArgs, TargetArgs},
        stop::{parse_duration, saturating_ns},
        time_range::RangeArgs,
    },
    model::Loss,
    recording::Metadata,
    source::{RecordingSummary, TimeLimits},
};

/// Convert a recording for other tools (Perfetto, Parquet, CSV, HTML)
///
/// Lost events are reported on stderr and in the output. docs/convert.md describes the formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data --to perfetto -o kvm.pftrace
  kvm-collector convert -i kvm.data --to parquet -o exits.parquet
  kvm-collector convert -i kvm.data --to parquet --rows events -o events.parquet
  kvm-collector convert -i kvm.data --to csv --vm web-1 --reason 'hlt,npf' -o exits.csv
  kvm-collector convert -i kvm.data --to json --rows events -e kvm_exit -o exits.json
  kvm-collector convert -i kvm.data --to html --vm 'web-*' -o web.html")]
pub(in crate::cli) struct ConvertArgs {
    /// Read this recording, written by `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: PathBuf,

    /// Output format
    #[arg(long, value_name = "FORMAT")]
    pub(super) to: TargetFormat,

    /// What each row represents (parquet, csv, json and text)
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "exits",
        help_heading = "Output"
    )]
    pub(super) rows: RowContents,

    /// Write to this file; - is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: PathBuf,

    /// Exit with code 3 if the recording is incomplete
    #[arg(long, help_heading = "Output")]
    pub(super) strict: bool,

    /// Convert only this much time (500ms, 10s) from the first event or --from on
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Selection")]
    pub(super) duration: Option<Duration>,

    // `--to` is the output format.
    #[command(flatten)]
    pub(super) range: RangeArgs<false>,

    #[command(flatten)]
    pub(super) events: EventArgs,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) reasons: ReasonArgs,
}

/// Output format of `convert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TargetFormat {
    /// A trace for ui.perfetto.dev, with a thread per vCPU and slices for guest mode and exits
    Perfetto,
    /// A table with typed columns, for DuckDB, pandas and others
    Parquet,
    /// One JSON object per line, as `trace --json` prints it
    Json,
    /// One line per row, with the columns of parquet
    Csv,
    /// One line per event or exit, as `trace` prints them
    Text,
    /// A report in one self-contained page: time breakdown, timeline and histograms
    Html,
}

/// The buffered output.
pub(super) type Writer = BufWriter<Box<dyn Write + Send>>;

/// The output file, which is not visible before it is complete; `None` for stdout.
pub(super) struct Output(Option<CompleteFile>);

impl Output {
    /// Makes the output file visible.
    pub(super) fn finish(self) -> io::Result<()> {
        self.0.map_or(Ok(()), CompleteFile::finish)
    }
}

/// Result of a conversion.
pub(super) struct Converted {
    pub(super) summary: RecordingSummary,
    /// The loss of the recording and of the conversion.
    pub(super) loss: Loss,
    /// The output, which is complete.
    pub(super) output: Output,
}

/// What a row of the output represents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowContents {
    /// Exits
    Exits,
    /// Events that -e selects
    Events,
}

impl ConvertArgs {
    /// Returns the range of the recording to convert.
    pub(super) fn limits(&self, metadata: &Metadata) -> anyhow::Result<TimeLimits> {
        let limits = TimeLimits {
            duration_ns: self.duration.map(saturating_ns),
            ..TimeLimits::default()
        };
        self.range.apply(limits, metadata, &self.input)
    }

    /// Returns the context of a write error.
    pub(super) fn write_error(&self) -> String {
        format!("cannot write to {}", self.output.display())
    }

    /// Opens the output. [`Output::finish`] must be called when it is complete.
    pub(super) fn open(&self) -> anyhow::Result<(Output, Writer)> {
        let (file, out): (_, Box<dyn Write + Send>) = if self.output == Path::new("-") {
            (None, Box::new(io::stdout()))
        } else {
            let created = CompleteFile::create(&self.output);
            let (complete, file) = created.with_context(|| self.write_error())?;
            (Some(complete), Box::new(file))
        };
        Ok((Output(file), BufWriter::with_capacity(256 << 10, out)))
    }
}
