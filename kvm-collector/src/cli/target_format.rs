//! The formats of files, and the suffixes that stand for them.

use std::path::Path;

use clap::ValueEnum;

use super::usage::bail_usage;

/// Output format of `convert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TargetFormat {
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

impl TargetFormat {
    /// Returns the suffixes of files with this format. The first one is the usual one.
    pub(in crate::cli) const fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Perfetto => &["pftrace", "perfetto-trace"],
            Self::Parquet => &["parquet"],
            Self::Json => &["json", "jsonl", "ndjson"],
            Self::Csv => &["csv"],
            Self::Text => &["txt"],
            Self::Html => &["html", "htm"],
        }
    }

    /// Returns the name of the format in messages.
    const fn title(self) -> &'static str {
        match self {
            Self::Perfetto => "Perfetto",
            Self::Parquet => "Parquet",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Text => "text",
            Self::Html => "HTML",
        }
    }

    /// Checks that the suffix of an output does not stand for another format than this one. Any text may be in a file of text.
    ///
    /// # Errors
    /// When it does.
    pub(in crate::cli) fn check_suffix(self, path: &Path) -> anyhow::Result<()> {
        match Self::of_file(path) {
            Some(other) if other != self && other != Self::Text => bail_usage!(
                "-o {}: the suffix stands for {}, but the output format is {}: change one of them",
                path.display(),
                other.title(),
                self.title()
            ),
            _ => Ok(()),
        }
    }

    /// Returns the format that the suffix of a file stands for.
    pub(in crate::cli) fn of_file(path: &Path) -> Option<Self> {
        let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
        let mut all = Self::value_variants().iter().copied();
        all.find(|it| it.suffixes().contains(&suffix.as_str()))
    }
}
