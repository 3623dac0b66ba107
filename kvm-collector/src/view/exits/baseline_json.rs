//! Reads an earlier `exits` report from its JSON.

use std::{collections::BTreeMap, io::BufRead};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    baseline::{Baseline, BaselineOrigin},
    baseline_error::BaselineError,
    row_stats::{ComparedRow, stats_by_row},
};
use crate::{bounds::read_last_line, view::SelectedBy};

/// Maximum size of a report. A row has 600 bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Maximum size of a file with several reports. A file with a report per second of a day fits.
pub const MAX_BASELINE_FILE_BYTES: u64 = 1 << 30;

/// Maximum size of what comes through a pipe or from a device, which may have no end. A report with 25,000 rows fits.
pub const MAX_BASELINE_STREAM_BYTES: u64 = 16 << 20;

/// The field that identifies the type of a JSON report.
#[derive(Deserialize)]
struct JsonView {
    view: Option<String>,
}

/// The fields of a JSON report that are compared. Other fields are ignored.
#[derive(Deserialize)]
struct JsonReport {
    host: Option<String>,
    kernel: Option<String>,
    start: Option<String>,
    end: Option<String>,
    selection: Option<SelectedBy>,
    #[serde(default)]
    recording_selection: SelectedBy,
    preempt_watched: Option<bool>,
    kind: Option<String>,
    by: Option<Vec<String>>,
    elapsed_ns: u64,
    #[serde(default)]
    row_count: u64,
    rows: Vec<ComparedRow>,
    #[serde(default)]
    /// Losses by kind; `null` if the kernel does not count that kind.
    loss: BTreeMap<String, Option<u64>>,
}

impl Baseline {
    /// Reads the output of `exits --json`, of at most `max_bytes`. If it has several reports, the last one is used, because it
    /// covers the whole measurement.
    ///
    /// # Errors
    /// If it cannot be read or is too large, or the last line is not an `exits` report.
    pub fn read(source: impl BufRead, max_bytes: u64) -> Result<Self, BaselineError> {
        let last = read_last_line(source, MAX_LINE_BYTES.min(max_bytes), max_bytes)
            .map_err(|error| BaselineError::Unreadable(error.to_string()))?;
        let last = last.ok_or(BaselineError::Empty)?;
        let (line, text) = (last.number, &last.text[..]);
        let not_json = |error: serde_json::Error| BaselineError::NotJson {
            line,
            reason: error.to_string(),
        };
        let view = serde_json::from_slice(text).map(|JsonView { view }| view);
        let view = view.map_err(|error| match error.is_data() {
            // A line of CSV may begin with a number, which is JSON, but not all of the line.
            true => match serde_json::from_slice::<IgnoredAny>(text) {
                Ok(_) => BaselineError::OtherView("it is JSON, but not a report".into()),
                Err(error) => not_json(error),
            },
            false => not_json(error),
        })?;
        match view.as_deref() {
            Some("exits") => {}
            Some("slow_exit") => {
                return Err(BaselineError::OtherView(
                    "it ends with slow exits, and the report after them is missing".into(),
                ));
            }
            Some(other) => {
                return Err(BaselineError::OtherView(format!("its view is {other:?}")));
            }
            None => return Err(BaselineError::OtherView("it has no `view`".into())),
        }
        let report: JsonReport =
            serde_json::from_slice(text).map_err(|error| BaselineError::NotReport {
                line,
                reason: error.to_string(),
            })?;
        Self::from_report(report)
    }

    fn from_report(report: JsonReport) -> Result<Self, BaselineError> {
        if report.elapsed_ns == 0 {
            return Err(BaselineError::NoTime);
        }
        let by = report
            .by
            .or_else(|| report.rows.first().map(infer_grouping));
        let shown_rows = report.rows.len() as u64;
        Ok(Self {
            kind: report
                .kind
                .unwrap_or_else(|| crate::model::VMEXIT.to_owned()),
            origin: BaselineOrigin {
                file: String::new(),
                host: report.host,
                kernel: report.kernel,
                start: report.start,
                end: report.end,
            },
            selection: report
                .selection
                .map(|it| it.within(&report.recording_selection)),
            preempt_watched: report.preempt_watched,
            by,
            elapsed_ns: report.elapsed_ns,
            rows: stats_by_row(report.rows, report.elapsed_ns),
            hidden_rows: report.row_count.saturating_sub(shown_rows),
            is_incomplete: report.loss.values().any(|lost| lost.unwrap_or(0) > 0),
        })
    }
}

/// Infers the grouping from the fields that a row has.
fn infer_grouping(row: &ComparedRow) -> Vec<String> {
    let has = [
        ("vm", row.vm.is_some()),
        ("vcpu", row.vcpu.is_some() || row.tid.is_some()),
        ("reason", row.reason.is_some() || row.key.is_some()),
    ];
    has.into_iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{host_rates::RowRates, row_stats::RowStats},
        *,
    };
    use proptest::prelude::*;

    const REPORT: &str = r#"{"view":"exits","elapsed_ns":1000,"row_count":3,"new_field":{"a":[1]},"loss":{"lost":0},"rows":[
        {"vm":"web","pid":7,"vcpu":0,"reason":"hlt","count":4,"time_ns":400,"idle_ns":300,"mean_ns":100,"p99_ns":150},
        {"vm":"web","pid":7,"vcpu":0,"reason":"hlt","count":12,"total_ns":400,"idle_ns":0,"mean_ns":20,"p99_ns":50}]}"#;

    fn read(text: &[u8]) -> Result<Baseline, BaselineError> {
        Baseline::read(text, MAX_BASELINE_FILE_BYTES)
    }

    fn report_line() -> String {
        REPORT.replace('\n', " ")
    }

    #[test]
    fn the_last_report_is_used_and_rows_with_the_same_id_are_merged() {
        let text = format!("{{\"view\":\"exits\"}}\nnot JSON\n{}\n\n", report_line());
        let baseline = read(text.as_bytes()).unwrap();
        assert_eq!(baseline.kind, "vmexit");
        assert_eq!(baseline.hidden_rows, 1);
        assert!(!baseline.is_incomplete);
        let (id, stats) = baseline.rows.first_key_value().unwrap();
        assert_eq!((id.vm.as_deref(), id.vcpu), (Some("web"), Some(0)));
        assert_eq!(
            *stats,
            RowStats {
                key_name: None,
                count: 16,
                rates: RowRates {
                    rate_per_s: 16e6,
                    total_ns_per_s: 800_000_000,
                    cost_ns_per_s: 500_000_000,
                },
                mean_ns: Some(40),
                p99_ns: None,
            }
        );
        assert_eq!(baseline.rows.len(), 1);
        assert_eq!(baseline.check("vmexit", &["reason", "vcpu", "vm"]), Ok(()));
    }

    #[test]
    fn errors_name_the_problem() {
        let truncated = &report_line()[..200];
        for (text, expected) in [
            ("", "it is empty"),
            (" \n\n", "it is empty"),
            ("hello", "line 1 is not JSON"),
            (truncated, "line 1 is not JSON (EOF"),
            ("[1]", "it is JSON, but not a report"),
            ("7", "it is JSON, but not a report"),
            ("2026-11-27T23:01:13Z,bed,0", "line 1 is not JSON"),
            ("{}", "it has no `view`"),
            (r#"{"view":"stat","events":[]}"#, "its view is \"stat\""),
            (r#"{"view":"slow_exit"}"#, "it ends with slow exits"),
            (r#"{"view":"exits"}"#, "missing field `elapsed_ns`"),
            (
                r#"{"view":"exits","elapsed_ns":0,"rows":[]}"#,
                "`elapsed_ns` is 0",
            ),
            (r#"{"view":"exits","elapsed_ns":-1,"rows":[]}"#, "-1"),
            (
                r#"{"view":"exits","elapsed_ns":1e999,"rows":[]}"#,
                "out of range",
            ),
            (
                r#"{"view":"exits","elapsed_ns":99999999999999999999,"rows":[]}"#,
                "floating point",
            ),
            (
                r#"{"view":"exits","elapsed_ns":"1","rows":[]}"#,
                "expected u64",
            ),
            (
                r#"{"view":"exits","elapsed_ns":1,"rows":[{}]}"#,
                "missing field",
            ),
            (
                r#"{"view":"exits","elapsed_ns":1,"rows":7}"#,
                "expected a sequence",
            ),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn damaged_json_never_panics(at in 0usize..500, byte: u8, cut in 0usize..500) {
            let mut text = report_line().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = read(&text);
            text.truncate(cut);
            let _ = read(&text);
        }
    }
}
