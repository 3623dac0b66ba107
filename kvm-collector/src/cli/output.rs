//! Output options of reports.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use super::{
    global::{Color, EXIT_INCOMPLETE, GlobalOptions},
    named_output::{Appears, BufferedOutput, check_outputs, complete, open_output},
    target_format::TargetFormat,
    usage::bail_usage,
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
    /// Output format [default: by the suffix of -o (.json, .jsonl, .csv), otherwise text]
    #[arg(long, value_name = "FORMAT")]
    format: Option<OutputFormat>,

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
            _ => self
                .format
                .or(self.format_of_file())
                .unwrap_or(OutputFormat::Text),
        }
    }

    /// Returns the format that the suffix of `-o` stands for. A suffix of text files stands for none, because each format is text.
    fn format_of_file(&self) -> Option<OutputFormat> {
        match TargetFormat::of_file(self.file()?)? {
            TargetFormat::Json => Some(OutputFormat::Json),
            TargetFormat::Csv => Some(OutputFormat::Csv),
            _ => None,
        }
    }

    /// Checks that the suffix of `-o` stands for the output format.
    ///
    /// # Errors
    /// When it stands for another one.
    fn check_suffix(&self) -> anyhow::Result<()> {
        let Some(path) = self.file() else {
            return Ok(());
        };
        let format = match self.format() {
            OutputFormat::Text => TargetFormat::Text,
            OutputFormat::Json => TargetFormat::Json,
            OutputFormat::Csv => TargetFormat::Csv,
        };
        match TargetFormat::of_file(path) {
            Some(TargetFormat::Parquet | TargetFormat::Perfetto | TargetFormat::Html) => {
                bail_usage!(
                    "-o {}: reports are text, JSON or CSV; `kvm-collector convert -i FILE -o {}` converts a recording to this format",
                    path.display(),
                    path.display()
                )
            }
            _ => format.check_suffix(path),
        }
    }

    /// Opens the output, for a report of these recordings, or of the running kernel if there are none. Called before the
    /// measurement, so that a file that cannot be written is an error before time is spent on measuring. A file keeps its content
    /// until the report is complete. If the kernel is measured and there will be several reports, it does so until the first one.
    pub(super) fn open(&self, inputs: &[PathBuf], is_long: bool) -> anyhow::Result<ReportOutput> {
        let appears = match inputs {
            [] if is_long => Appears::AtFirstFlush,
            _ => Appears::AtEnd,
        };
        self.check_suffix()?;
        check_outputs(inputs, self.file(), self.loss.as_deref())?;
        let loss = self.loss.as_deref();
        Ok(ReportOutput {
            report: open_output(self.file(), appears)?,
            loss: loss
                .map(|it| open_output(Some(it), Appears::AtEnd))
                .transpose()?,
        })
    }

    /// Returns the files that are written, except stdout.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = [self.file(), self.loss.as_deref()].into_iter();
        files.flatten().map(Path::to_owned).collect()
    }

    /// Returns the file of `-o`; `None` for stdout.
    fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|it| *it != Path::new("-"))
    }

    pub(super) fn text_style(&self, global: GlobalOptions, zeros: bool) -> TextStyle {
        TextStyle {
            color: use_color(global.color, self.file().is_none()),
            show_zeros: zeros,
            max_width: self.max_width(),
        }
    }

    /// Returns the width of stdout. There is no limit in a file.
    fn max_width(&self) -> Option<usize> {
        match self.file() {
            Some(_) => None,
            None => stdout_width(),
        }
    }

    /// Completes the output, and reports the losses of a measurement where its reports do not. Returns the exit code.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn finish(
        &self,
        out: ReportOutput,
        total: &LossReport,
        origin: &ReportOrigin,
    ) -> anyhow::Result<ExitCode> {
        let ReportOutput { report, loss } = out;
        let mut outputs = vec![report];
        if let Some(mut out) = loss {
            write_losses(total, origin, &mut out)?;
            outputs.push(out);
        }
        complete(outputs)?;
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

/// The output of a report, and of its losses if they are requested.
#[derive(Debug)]
pub(super) struct ReportOutput {
    report: BufferedOutput,
    loss: Option<BufferedOutput>,
}

impl Write for ReportOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.report.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.report.flush()
    }
}

/// Writes the losses of a measurement.
///
/// # Errors
/// When the output cannot be written.
pub(super) fn write_losses(
    total: &LossReport,
    origin: &ReportOrigin,
    out: &mut impl Write,
) -> io::Result<()> {
    let period = ReportPeriod::Total.name();
    json::write_report(total, origin, period, total.times_ns, out)
}

/// Returns the width of the terminal, or the value of COLUMNS if stdout is not a terminal; `None` if there is no limit.
pub(super) fn stdout_width() -> Option<usize> {
    let terminal = io::stdout();
    if terminal.is_terminal() {
        let size = rustix::termios::tcgetwinsize(terminal).ok()?;
        return Some(usize::from(size.ws_col)).filter(|columns| *columns > 0);
    }
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// Returns whether to use colour.
pub(super) fn use_color(when: Color, on_stdout: bool) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let variable = |name| std::env::var_os(name).unwrap_or_default();
            on_stdout
                && io::stdout().is_terminal()
                && wants_color(&variable("NO_COLOR"), &variable("TERM"))
        }
    }
}

/// Returns whether the user of a terminal with these environment variables wants colour: see no-color.org.
fn wants_color(no_color: &OsStr, term: &OsStr) -> bool {
    no_color.is_empty() && term != "dumb"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_not_used_if_the_environment_says_so() {
        let wants = |no_color: &str, term: &str| wants_color(no_color.as_ref(), term.as_ref());
        assert!(wants("", "xterm"));
        assert!(wants("", ""));
        assert!(!wants("1", "xterm"));
        assert!(!wants("", "dumb"));
    }
}
