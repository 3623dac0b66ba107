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
        ending::{duration, ns},
        selection::{Events, Reasons, Target},
    },
    source::TimeLimits,
};

/// Convert a recording for other tools (Perfetto, Parquet, CSV, HTML)
///
/// perfetto: a trace for ui.perfetto.dev, with a thread for each vCPU and slices for the guest and for exits.
/// parquet, csv: a row for each exit or event, for DuckDB, pandas, spreadsheets. json, text: lines as `trace`
/// writes them. html: a report for people, with where the time went, a timeline and histograms, in one page that
/// needs no network. What is missing from the recording is said, and is in the result. What the results have in
/// them is in docs/convert.md.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data --to perfetto -o kvm.pftrace
  kvm-collector convert -i kvm.data --to parquet -o exits.parquet
  kvm-collector convert -i kvm.data --to parquet --rows events -o events.parquet
  kvm-collector convert -i kvm.data --to csv --vm web-1 --reason 'hlt,npf' -o exits.csv
  kvm-collector convert -i kvm.data --to json --rows events -e kvm_exit -o exits.json
  kvm-collector convert -i kvm.data --to html --vm 'web-*' -o web.html")]
pub(in crate::cli) struct ConvertArgs {
    /// The recording, of `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: PathBuf,

    /// What to make of it
    #[arg(long, value_name = "TARGET")]
    pub(super) to: To,

    /// What a row is
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "exits",
        help_heading = "Output"
    )]
    pub(super) rows: RowsOf,

    /// Write to this file; - is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: PathBuf,

    /// End with exit code 3 if anything is missing from the recording
    #[arg(long, help_heading = "Output")]
    pub(super) strict: bool,

    /// Only so much of the recording, from its first event on
    #[arg(short, long, value_name = "TIME", value_parser = duration, help_heading = "Selection")]
    pub(super) duration: Option<Duration>,

    #[command(flatten)]
    pub(super) events: Events,

    #[command(flatten)]
    pub(super) target: Target,

    #[command(flatten)]
    pub(super) reasons: Reasons,
}

/// What a recording can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
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
    /// A page for browsers
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowsOf {
    /// Each exit
    Exits,
    /// Each event, of those that -e chooses
    Events,
}

impl ConvertArgs {
    pub(super) fn limits(&self) -> TimeLimits {
        TimeLimits {
            duration_ns: self.duration.map(ns),
            interval_ns: None,
        }
    }

    /// Says what kept it from being written.
    pub(super) fn cannot_write(&self) -> String {
        format!("cannot write to {}", self.output.display())
    }

    pub(super) fn open(&self) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
        let out: Box<dyn Write + Send> = if self.output == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(&self.output).with_context(|| self.cannot_write())?)
        };
        Ok(BufWriter::with_capacity(256 << 10, out))
    }
}
