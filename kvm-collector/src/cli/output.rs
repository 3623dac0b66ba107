//! Where a report goes, and in which format.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Color, Common, INCOMPLETE};
use crate::{format::text::Look, model::Loss};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One object per report, on one line.
    Json,
    /// A line per row.
    Csv,
}

/// Where a report goes, and in which format.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// How to write the report
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// Short for --format json
    #[arg(long, conflicts_with_all = ["csv", "format"])]
    json: bool,

    /// Short for --format csv
    #[arg(long, conflicts_with = "format")]
    csv: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// End with exit code 3 if anything is missing from the numbers
    #[arg(long)]
    strict: bool,
}

impl Output {
    pub(super) fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => self.format,
        }
    }

    /// Opens what to write to. Done before measuring, so that a file that cannot be written does not
    /// cost a measurement.
    pub(super) fn open(&self) -> anyhow::Result<BufWriter<Box<dyn Write>>> {
        open(self.output.as_ref())
    }

    pub(super) fn look(&self, common: Common, zeros: bool) -> Look {
        Look {
            color: color(common.color, self.output.is_none()),
            zeros,
        }
    }

    /// How the command ends, after what is missing.
    pub(super) fn exit_code(&self, loss: &Loss) -> ExitCode {
        if self.strict && !loss.is_none() {
            ExitCode::from(INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Opens a file, or stdout.
pub(super) fn open(file: Option<&PathBuf>) -> anyhow::Result<BufWriter<Box<dyn Write>>> {
    let out: Box<dyn Write> = match file {
        Some(path) => Box::new(
            File::create(path).with_context(|| format!("cannot write to {}", path.display()))?,
        ),
        None => Box::new(io::stdout()),
    };
    Ok(BufWriter::with_capacity(64 << 10, out))
}

/// Is colour to be used?
pub(super) fn color(when: Color, on_stdout: bool) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            on_stdout && io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
        }
    }
}
