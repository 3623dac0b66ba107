//! Arguments of `convert`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    cli::{
        selection::{EventArgs, ReasonArgs, TargetArgs},
        stop::{parse_duration, saturating_ns},
    },
    source::TimeLimits,
};

/// Convert a recording for other tools (Perfetto, Parquet, CSV, HTML)
///
/// perfetto: a trace for ui.perfetto.dev, with a thread per vCPU and slices for guest mode and
/// exits. parquet, csv: one row per exit or event, for DuckDB, pandas and spreadsheets. json, text:
/// lines as `trace` prints them. html: a report in one page, with a time breakdown, a timeline and
/// histograms; it needs no network. Lost events are reported on stderr and in the output.
/// docs/convert.md describes the formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data --to perfetto -o kvm.pftrace
  kvm-collector convert -i kvm.data --to parquet -o exits.parquet
  kvm-collector convert -i kvm.data --to parquet --rows events -o events.parquet
  kvm-collector convert -i kvm.data --to csv --vm web-1 --reason 'hlt,npf' -o exits.csv
  kvm-collector convert -i kvm.data --to json --rows events -e kvm_exit -o exits.json
  kvm-collector convert -i kvm.data --to html --vm 'web-*' -o web.html")]
pub(in crate::cli) struct ConvertArgs {
    /// Read this recording of `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: PathBuf,

    /// Output format
    #[arg(long, value_name = "TARGET")]
    pub(super) to: TargetFormat,

    /// Contents of a row
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

    /// Convert only this much of the recording, from its first event on
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = "Selection")]
    pub(super) duration: Option<Duration>,

    #[command(flatten)]
    pub(super) events: EventArgs,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) reasons: ReasonArgs,
}

/// What a recording can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TargetFormat {
    /// A trace for ui.perfetto.dev
    Perfetto,
    /// A table with typed columns
    Parquet,
    /// One JSON object per line, as `trace --json`
    Json,
    /// One line per row, with the columns of parquet
    Csv,
    /// One line per event or exit, as `trace` prints them
    Text,
    /// A report for web browsers
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowContents {
    /// One exit
    Exits,
    /// One event that -e selects
    Events,
}

impl ConvertArgs {
    pub(super) fn limits(&self) -> TimeLimits {
        TimeLimits {
            duration_ns: self.duration.map(saturating_ns),
            interval_ns: None,
        }
    }

    /// Says what kept it from being written.
    pub(super) fn write_error(&self) -> String {
        format!("cannot write to {}", self.output.display())
    }

    pub(super) fn open(&self) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
        let out: Box<dyn Write + Send> = if self.output == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(&self.output).with_context(|| self.write_error())?)
        };
        Ok(BufWriter::with_capacity(256 << 10, out))
    }
}
