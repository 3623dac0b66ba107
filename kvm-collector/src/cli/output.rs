//! Where a report goes, and in which format.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::common::{Color, Common, INCOMPLETE};
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
    pub(super) fn open(&self) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
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
        if self.strict && !loss.is_empty() {
            ExitCode::from(INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Opens a file, or stdout.
pub(super) fn open(file: Option<&PathBuf>) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
    let out: Box<dyn Write + Send> = match file {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::create(path).with_context(|| format!("cannot write to {name}"))?;
            Box::new(Named { name, to: file })
        }
        None => Box::new(Named {
            name: "stdout".to_owned(),
            to: io::stdout(),
        }),
    };
    Ok(BufWriter::with_capacity(64 << 10, out))
}

/// Says what could not be written to, when that fails in the middle.
struct Named<W> {
    name: String,
    to: W,
}

impl<W> Named<W> {
    fn failed(&self, error: &io::Error) -> io::Error {
        // Callers go by the kind.
        io::Error::new(
            error.kind(),
            format!("cannot write to {}: {error}", self.name),
        )
    }
}

impl<W: Write> Write for Named<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).map_err(|error| self.failed(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush().map_err(|error| self.failed(&error))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_to_is_said() {
        let mut out = open(Some(&PathBuf::from("/dev/full"))).unwrap();
        out.write_all(b"report").unwrap();
        let error = out.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("cannot write to /dev/full: "), "{text}");
    }
}
