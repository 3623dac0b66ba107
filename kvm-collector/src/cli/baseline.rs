//! `exits --baseline`: reads the earlier report.

use std::{
    io::{BufReader, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::usage::{UsageError, bail_usage};
use crate::{
    host::sandbox::open_as_caller,
    recording::is_recording,
    view::{
        Baseline, DiffReport, GroupBy, MAX_BASELINE_FILE_BYTES, MAX_BASELINE_STREAM_BYTES,
        SelectedBy, SortKey,
    },
};

/// Options of the comparison with an earlier report.
#[derive(Debug, Args)]
pub(super) struct BaselineArgs {
    /// Compare with the last report in FILE, which `exits --json` wrote
    ///
    /// The report must have the same --kind and --by, and the same selection of VMs, vCPUs, threads and
    /// reasons. The largest change comes first.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["hist", "percentiles", "causes", "cause", "advice"],
        help_heading = "Output"
    )]
    baseline: Option<PathBuf>,
}

/// Number of bytes that identify a recording.
const MAGIC_BYTES: u64 = 8;

impl BaselineArgs {
    /// Returns the file of the baseline, if one is given.
    pub(super) fn file(&self) -> Option<&Path> {
        self.baseline.as_deref()
    }

    pub(super) fn is_given(&self) -> bool {
        self.baseline.is_some()
    }

    /// Reads the earlier report, if one is given, and checks that it can be compared. This happens before the
    /// measurement, so that a wrong file does not waste one.
    pub(super) fn read(
        &self,
        kind: &str,
        by: &[GroupBy],
        (selection, preempt_watched): (&SelectedBy, bool),
        sort: Option<SortKey>,
    ) -> anyhow::Result<Option<Baseline>> {
        let Some(path) = &self.baseline else {
            return Ok(None);
        };
        if sort.is_some_and(|sort| !DiffReport::can_sort(sort)) {
            bail_usage!(
                "rows of --baseline can be sorted by count, time, cost, mean, p99 and name: give --sort one of these"
            );
        }
        let by: Vec<_> = by.iter().map(|group| group.name()).collect();
        let baseline = read_report(path).and_then(|baseline| {
            let check = baseline.check(kind, &by);
            check
                .and_then(|()| baseline.check_selection(selection, preempt_watched))
                .map_err(|error| UsageError(error.to_string()))?;
            Ok(baseline.with_file(path.display().to_string()))
        });
        baseline
            .with_context(|| format!("cannot compare with {}", path.display()))
            .map(Some)
    }
}

fn read_report(path: &Path) -> anyhow::Result<Baseline> {
    let mut file = open_as_caller(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => UsageError(error.to_string()).into(),
        _ => anyhow::Error::from(error),
    })?;
    let mut start = Vec::new();
    (&mut file).take(MAGIC_BYTES).read_to_end(&mut start)?;
    if is_recording(&start) {
        let file = path.display();
        bail_usage!(
            "it is a recording, not a report: run `kvm-collector exits -i {file} --json -o before.json` first, and give before.json to --baseline"
        );
    }
    // Only a file has a size, and ends.
    let max_bytes = match file.metadata()?.is_file() {
        true => MAX_BASELINE_FILE_BYTES,
        false => MAX_BASELINE_STREAM_BYTES,
    };
    Ok(Baseline::read(
        BufReader::new(start.chain(file)),
        max_bytes,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &str, sort: Option<SortKey>) -> String {
        let args = BaselineArgs {
            baseline: Some(path.into()),
        };
        let all = (&SelectedBy::default(), false);
        let error = args
            .read("vmexit", &[GroupBy::Reason], all, sort)
            .unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn an_unreadable_file_is_named_in_the_error() {
        let missing = error("/does/not/exist", None);
        assert!(
            missing.starts_with("cannot compare with /does/not/exist: No such file"),
            "{missing}"
        );
        assert_eq!(
            error("/dev/null", None),
            "cannot compare with /dev/null: it is empty"
        );
        assert_eq!(
            error("/dev/zero", None),
            "cannot compare with /dev/zero: line 1 is not text"
        );
        assert!(error("/", None).contains("directory"));
        assert!(error("/dev/null", Some(SortKey::Max)).contains("--sort"));
    }
}
