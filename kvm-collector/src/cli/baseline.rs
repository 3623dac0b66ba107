//! `exits --baseline`: where the earlier report comes from.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::view::{Baseline, DiffReport, Group, SortKey};

/// An earlier report to compare with.
#[derive(Debug, Args)]
pub(super) struct BaselineArgs {
    /// Show what changed since an earlier report of the same --kind and --by: a file that exits --json wrote,
    /// of which the last line counts. The largest change comes first
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["hist", "percentiles", "causes", "cause", "advice"],
        help_heading = "Output"
    )]
    baseline: Option<PathBuf>,
}

/// A file larger than this is not a report: a row has 600 bytes, and a report of each second of a day fits in.
const MAX_BYTES: u64 = 1 << 30;

impl BaselineArgs {
    pub(super) fn is_given(&self) -> bool {
        self.baseline.is_some()
    }

    /// Reads it, if one is given, and looks whether it can be compared with what is asked for. Done before measuring, so
    /// that a wrong file does not cost a measurement.
    pub(super) fn read(
        &self,
        kind: &str,
        by: &[Group],
        sort: Option<SortKey>,
    ) -> anyhow::Result<Option<Baseline>> {
        let Some(path) = &self.baseline else {
            return Ok(None);
        };
        if sort.is_some_and(|sort| !DiffReport::can_sort(sort)) {
            bail!(
                "rows of --baseline can be sorted by count, time, busy, mean, p99 and name: give --sort one of these"
            );
        }
        let by: Vec<_> = by.iter().map(|group| group.name()).collect();
        let baseline = bytes(path)
            .and_then(|bytes| Ok(Baseline::parse(&bytes)?))
            .and_then(|baseline| {
                baseline.check(kind, &by)?;
                Ok(baseline)
            });
        baseline
            .with_context(|| format!("cannot compare with {}", path.display()))
            .map(Some)
    }
}

fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than allowed shows that it is too large, whatever kind of file it is.
    let read = File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if read as u64 > MAX_BYTES {
        bail!(
            "it has more than {} MiB: keep its last line only",
            MAX_BYTES >> 20
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &str, sort: Option<SortKey>) -> String {
        let args = BaselineArgs {
            baseline: Some(path.into()),
        };
        let error = args.read("vmexit", &[Group::Reason], sort).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let missing = error("/does/not/exist", None);
        assert!(
            missing.starts_with("cannot compare with /does/not/exist: No such file"),
            "{missing}"
        );
        assert_eq!(
            error("/dev/null", None),
            "cannot compare with /dev/null: it is empty"
        );
        assert!(error("/", None).contains("directory"));
        assert!(error("/dev/null", Some(SortKey::Max)).contains("--sort"));
    }
}
