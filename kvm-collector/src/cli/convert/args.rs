//! Arguments of `convert`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::output_files::{Output, Writer};
use crate::{
    bounds::each_once,
    cli::{
        sandbox::RecordingFiles,
        selection::{EventArgs, ReasonArgs, TargetArgs},
        stop::{parse_duration, saturating_ns},
        target_format::TargetFormat,
        time_range::RangeArgs,
        usage::bail_usage,
    },
    convert::PartitionKey,
    model::Loss,
    recording::Metadata,
    source::{RecordingSummary, TimeLimits},
    tracefs::Format,
    view::SelectedBy,
};

/// Convert a recording for other tools (Perfetto, Parquet, CSV, HTML)
///
/// Lost events are reported on stderr, and in the output except in CSV. docs/convert.md describes the formats.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data -o kvm.pftrace
  kvm-collector convert -i kvm.data -o exits.parquet
  kvm-collector convert -i kvm.data --rows events -o events.parquet
  kvm-collector convert -i kvm.data --vm web-1 --reason 'hlt,npf' -o exits.csv
  kvm-collector convert -i kvm.data --to json --rows events -e kvm_exit -o -
  kvm-collector convert -i kvm.data --vm 'web-*' -o web.html
  kvm-collector convert -i kvm.data --partition dt,host -o fleet")]
pub(in crate::cli) struct ConvertArgs {
    /// Read this recording, written by `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "no_wait")]
    pub(super) input: PathBuf,

    /// Output format [default: by the suffix of the output, such as .parquet]
    #[arg(long, value_name = "FORMAT")]
    to: Option<TargetFormat>,

    /// What each row represents (parquet, csv, json and text) [default: exits]
    #[arg(long, value_name = "WHAT", help_heading = "Output")]
    rows: Option<RowContents>,

    /// Write to this file, or into this folder with --partition; - is stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(super) output: PathBuf,

    /// Write a file per day (dt) and host into the folder that -o names (parquet)
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    partition: Vec<PartitionBy>,

    /// Also write the losses to this file, as a line of JSON
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) loss: Option<PathBuf>,

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

/// Result of a conversion.
pub(super) struct Converted {
    pub(super) summary: RecordingSummary,
    /// The loss of the recording and of the conversion.
    pub(super) loss: Loss,
    /// Number of exits written. `None` if the output does not consist of exits.
    pub(super) exits_written: Option<u64>,
    pub(super) selected: Selected,
}

/// What was selected of the recording, to say why nothing of it was.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    /// Formats of the selected events.
    pub(super) formats: Vec<Format>,
    /// Codes of the selected exit reasons; `None` for all.
    pub(super) codes: Option<Vec<u32>>,
    /// Whether only a part of the time is selected.
    pub(super) is_part: bool,
}

/// What a row of the output represents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowContents {
    /// Exits
    Exits,
    /// Events that -e selects
    Events,
}

/// By what `--partition` divides rows into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartitionBy {
    /// By day in UTC: dt=YYYY-MM-DD
    Dt,
    /// By name of the host: host=NAME
    Host,
}

impl ConvertArgs {
    /// Returns the output format: that of `--to`, or the one that the suffix of the output stands for.
    pub(super) fn target_format(&self) -> anyhow::Result<TargetFormat> {
        if let Some(format) = self.to {
            format.check_suffix(&self.output)?;
            return Ok(format);
        }
        if !self.partition.is_empty() {
            return Ok(TargetFormat::Parquet);
        }
        let found = TargetFormat::of_file(&self.output);
        let Some(format) = found else {
            let all = TargetFormat::value_variants();
            let known = all.iter().map(|it| {
                let name = it.to_possible_value();
                let name = name.as_ref().map_or("", |it| it.get_name());
                format!("{name} (.{})", it.suffixes().join(", ."))
            });
            bail_usage!(
                "the suffix of `{}` is not that of a format: use --to, or the suffix of one of these formats: {}",
                self.output.display(),
                known.collect::<Vec<_>>().join(", ")
            );
        };
        Ok(format)
    }

    /// Returns the recording and the outputs.
    pub(in crate::cli) fn files(&self) -> RecordingFiles {
        let outputs = [Some(&self.output), self.loss.as_ref()].into_iter();
        RecordingFiles {
            inputs: vec![self.input.clone()],
            outputs: outputs.flatten().cloned().collect(),
        }
    }

    /// Returns what a row of the output represents.
    pub(super) fn rows(&self) -> RowContents {
        self.rows.unwrap_or(RowContents::Exits)
    }

    /// Checks that every option has an effect.
    pub(super) fn check_options(&self, format: TargetFormat) -> anyhow::Result<()> {
        let name = format.to_possible_value();
        let name = name.as_ref().map_or("", |it| it.get_name());
        let has_rows = !matches!(format, TargetFormat::Perfetto | TargetFormat::Html);
        if self.rows.is_some() && !has_rows {
            bail_usage!(
                "--rows cannot be used with --to {name}, which has no rows: use --to parquet, csv, json or text"
            );
        }
        let is_exits_only = match format {
            TargetFormat::Perfetto => true,
            TargetFormat::Parquet | TargetFormat::Csv => self.rows() == RowContents::Exits,
            TargetFormat::Json | TargetFormat::Text | TargetFormat::Html => false,
        };
        if is_exits_only && !self.events.given().is_empty() {
            let advice = match has_rows {
                true => "add --rows events, or select exits with --reason",
                false => "select exits with --reason",
            };
            bail_usage!("-e selects events, but --to {name} writes exits: {advice}");
        }
        self.check_partition(format, name)?;
        Ok(())
    }

    /// Checks `--partition`, whose files are named by the program.
    fn check_partition(&self, format: TargetFormat, format_name: &str) -> anyhow::Result<()> {
        if self.partition.is_empty() {
            return Ok(());
        }
        if format != TargetFormat::Parquet {
            bail_usage!(
                "--partition cannot be used with --to {format_name}, which is a single file: use --to parquet"
            );
        }
        if self.output == Path::new("-") || self.output.is_file() {
            bail_usage!(
                "--partition writes several files, and `{}` is not a folder: give a folder with -o",
                self.output.display()
            );
        }
        Ok(())
    }

    /// Returns the values of the options that select.
    pub(super) fn selected_by(&self) -> SelectedBy {
        self.range.add_to(SelectedBy {
            event: self.events.given(),
            reason: self.reasons.patterns(),
            ..self.target.selected_by()
        })
    }

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
        write_error(&self.output)
    }

    /// Returns the folder for the files of `--partition`; `None` without it.
    pub(super) fn partition_folder(&self) -> Option<&Path> {
        (!self.partition.is_empty()).then_some(&*self.output)
    }

    /// Returns the values by which rows are divided into files.
    pub(super) fn partition_keys(&self) -> Vec<PartitionKey> {
        let keys = self.partition.iter().map(|it| match it {
            PartitionBy::Dt => PartitionKey::Day,
            PartitionBy::Host => PartitionKey::Host,
        });
        each_once(keys)
    }

    /// Opens the file of `-o`, and adds it to the output.
    pub(super) fn open(&self, output: &Output) -> anyhow::Result<Writer> {
        let out: Box<dyn Write + Send> = if self.output == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let created = output.create(&self.output);
            Box::new(created.with_context(|| self.write_error())?)
        };
        Ok(BufWriter::with_capacity(256 << 10, out))
    }

    /// Opens the file of `--loss`, and adds it to the output.
    pub(super) fn open_loss(
        &self,
        output: &Output,
    ) -> anyhow::Result<Option<(&Path, BufWriter<File>)>> {
        let Some(path) = &self.loss else {
            return Ok(None);
        };
        let file = output.create(path).with_context(|| write_error(path))?;
        Ok(Some((path, BufWriter::new(file))))
    }
}

/// Returns the context of an error that occurred when a file was written.
pub(super) fn write_error(path: &Path) -> String {
    format!("cannot write to {}", path.display())
}
