//! Output options of reports, and the writer for the output file or stdout.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{
    global::{Color, EXIT_INCOMPLETE, GlobalOptions},
    output_file::ReplacedFile,
};
use crate::{
    format::{describe_loss, json, text::TextStyle},
    session::ReportPeriod,
    view::{LossReport, ReportOrigin},
};

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per report, on one line.
    Json,
    /// One line per row.
    Csv,
}

/// Options for output file and format.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,

    /// Same as --format json
    #[arg(long, conflicts_with_all = ["csv", "format"])]
    json: bool,

    /// Same as --format csv
    #[arg(long, conflicts_with = "format")]
    csv: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Also write the losses to this file, as a line of JSON
    ///
    /// CSV has no losses, because all its lines have the same columns. Other formats have them anyway.
    #[arg(long, value_name = "FILE")]
    loss: Option<PathBuf>,

    /// Exit with code 3 if the data is incomplete
    ///
    /// Incomplete means that one of these counts is not 0. lost: events that did not fit into a
    /// buffer. unmatched: exits without a following entry. moved: exits after which another thread
    /// entered the vCPU. map_full: exits that had no row. unattributed: events of an unknown VM or
    /// vCPU. missed: events for which the kernel ran no eBPF program. damaged, late, sampled: of a
    /// recording. An exit in progress at the end is not a loss.
    #[arg(long)]
    strict: bool,
}

impl OutputArgs {
    pub(super) fn format(&self) -> OutputFormat {
        match (self.json, self.csv) {
            (true, _) => OutputFormat::Json,
            (_, true) => OutputFormat::Csv,
            _ => self.format,
        }
    }

    /// Opens the output. Called before the measurement, so that a file that cannot be written is an error
    /// before time is spent on measuring. A file keeps its content until the first report is written.
    pub(super) fn open(&self) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
        open_output(self.output.as_ref())
    }

    pub(super) fn text_style(&self, global: GlobalOptions, zeros: bool) -> TextStyle {
        TextStyle {
            color: use_color(global.color, self.output.is_none()),
            show_zeros: zeros,
            max_width: self.max_width(),
        }
    }

    /// Returns the width of the terminal, or the value of COLUMNS if stdout is not a terminal. There is no limit in a file.
    fn max_width(&self) -> Option<usize> {
        if self.output.is_some() {
            return None;
        }
        let terminal = io::stdout();
        if terminal.is_terminal() {
            let size = rustix::termios::tcgetwinsize(terminal).ok()?;
            return Some(usize::from(size.ws_col)).filter(|columns| *columns > 0);
        }
        std::env::var("COLUMNS").ok()?.parse().ok()
    }

    /// Reports the losses of a measurement where its reports do not. Returns the exit code.
    ///
    /// # Errors
    /// When the file of --loss cannot be written.
    pub(super) fn finish(
        &self,
        total: &LossReport,
        origin: &ReportOrigin,
    ) -> anyhow::Result<ExitCode> {
        if let Some(path) = &self.loss {
            write_losses(path, total, origin)?;
        }
        let loss = &total.loss;
        if self.format() == OutputFormat::Csv {
            for (entry, number) in loss.occurred() {
                log::warn!("incomplete: {}", describe_loss(&entry, number));
            }
        }
        Ok(if self.strict && !loss.is_empty() {
            ExitCode::from(EXIT_INCOMPLETE)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Writes the losses of a measurement to a file.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_losses(
    path: &PathBuf,
    total: &LossReport,
    origin: &ReportOrigin,
) -> anyhow::Result<()> {
    let mut out = open_output(Some(path))?;
    let times_ns = (total.start_ns, total.end_ns);
    let period = ReportPeriod::Total.name();
    json::write_report(total, origin, period, times_ns, &mut out)?;
    Ok(out.flush()?)
}

/// Opens a file, or stdout.
pub(super) fn open_output(
    file: Option<&PathBuf>,
) -> anyhow::Result<BufWriter<Box<dyn Write + Send>>> {
    let out: Box<dyn Write + Send> = match file {
        Some(path) => {
            let name = path.display().to_string();
            let file =
                ReplacedFile::open(path).with_context(|| format!("cannot write to {name}"))?;
            Box::new(NamedOutput { name, inner: file })
        }
        None => Box::new(NamedOutput {
            name: "stdout".to_owned(),
            inner: io::stdout(),
        }),
    };
    Ok(BufWriter::with_capacity(64 << 10, out))
}

/// A writer that adds the name of the output to its errors.
struct NamedOutput<W> {
    name: String,
    inner: W,
}

impl<W> NamedOutput<W> {
    fn add_name(&self, error: &io::Error) -> io::Error {
        // Keep the kind, because callers check it.
        io::Error::new(
            error.kind(),
            format!("cannot write to {}: {error}", self.name),
        )
    }
}

impl<W: Write> Write for NamedOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner
            .write(bytes)
            .map_err(|error| self.add_name(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(|error| self.add_name(&error))
    }
}

/// Returns whether to use colour.
pub(super) fn use_color(when: Color, on_stdout: bool) -> bool {
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
    fn write_errors_name_the_output() {
        let mut out = open_output(Some(&PathBuf::from("/dev/full"))).unwrap();
        out.write_all(b"report").unwrap();
        let error = out.flush().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("cannot write to /dev/full: "), "{text}");
    }
}
