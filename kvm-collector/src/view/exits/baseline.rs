//! Reads an earlier `exits` report from its JSON, for a comparison.

use std::{collections::BTreeMap, io::BufRead};

use serde::{Deserialize, Serialize};

use super::{
    baseline_error::BaselineError,
    row_stats::{RowId, RowStats, merge_by_id, stable_vm_name},
};
use crate::{bounds::read_last_line, view::SelectedBy};

/// Maximum size of a report. A row has 600 bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Maximum size of a file with several reports. A file with a report per second of a day fits.
const MAX_BYTES: u64 = 1 << 30;

/// Which report a comparison is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BaselineOrigin {
    /// Path of the file with the report.
    pub file: String,
    /// Name of the measured host; `None` if the report does not name it.
    pub host: Option<String>,
    /// Release of the host's kernel.
    pub kernel: Option<String>,
    /// Start of the report's interval, in UTC; `None` if the report does not contain the date.
    pub start: Option<String>,
    /// End of the report's interval.
    pub end: Option<String>,
}

/// An earlier `exits` report to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The counted kind of event.
    pub(super) kind: String,
    /// Which report it is.
    pub(super) origin: BaselineOrigin,
    /// What was selected; `None` if the report does not state it.
    selection: Option<SelectedBy>,
    /// Whether preemption was measured; `None` if the report does not state it.
    preempt_watched: Option<bool>,
    /// The grouping of the rows; `None` if the report neither states it nor has a row to infer it
    /// from.
    by: Option<Vec<String>>,
    /// Length of the report's interval; not 0.
    pub(super) elapsed_ns: u64,
    pub(super) rows: BTreeMap<RowId, RowStats>,
    /// Number of rows that `--top` hid.
    pub(super) hidden_rows: u64,
    /// Whether the report has losses.
    pub(super) is_incomplete: bool,
}

/// The field that identifies the type of a JSON report.
#[derive(Deserialize)]
struct JsonView {
    view: Option<String>,
}

/// The fields of a JSON report that are compared. Other fields are ignored. The aliases are the names in version 1 of the reports.
#[derive(Deserialize)]
struct JsonReport {
    host: Option<String>,
    kernel: Option<String>,
    start: Option<String>,
    end: Option<String>,
    selection: Option<SelectedBy>,
    preempt_watched: Option<bool>,
    kind: Option<String>,
    by: Option<Vec<String>>,
    elapsed_ns: u64,
    #[serde(default)]
    row_count: u64,
    rows: Vec<JsonRow>,
    #[serde(default)]
    /// Losses by kind; `null` if the kernel does not count that kind.
    loss: BTreeMap<String, Option<u64>>,
}

#[derive(Deserialize)]
struct JsonRow {
    vm: Option<String>,
    pid: Option<u32>,
    vcpu: Option<u32>,
    tid: Option<u32>,
    reason: Option<String>,
    key: Option<String>,
    #[serde(alias = "name")]
    key_name: Option<String>,
    count: u64,
    #[serde(alias = "time_ns")]
    total_ns: u64,
    #[serde(default)]
    idle_ns: u64,
    mean_ns: u64,
    p99_ns: u64,
}

impl Baseline {
    /// Reads the output of `exits --json`. If it has several reports, the last one is used, because it
    /// covers the whole measurement.
    ///
    /// # Errors
    /// If it cannot be read or is too large, or the last line is not an `exits` report.
    pub fn read(source: impl BufRead) -> Result<Self, BaselineError> {
        let last = read_last_line(source, MAX_LINE_BYTES, MAX_BYTES)
            .map_err(|error| BaselineError::Unreadable(error.to_string()))?;
        let last = last.ok_or(BaselineError::Empty)?;
        let (line, text) = (last.number, &last.text[..]);
        let JsonView { view } =
            serde_json::from_slice(text).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => {
                    BaselineError::OtherView("it is JSON, but not a report".into())
                }
                _ => BaselineError::NotJson {
                    line,
                    reason: error.to_string(),
                },
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
        let rows = report.rows.into_iter().map(|row| {
            let id = RowId {
                vm: row.vm.as_deref().map(|vm| stable_vm_name(vm, row.pid)),
                pid: row.pid,
                vcpu: row.vcpu,
                reason: row.reason,
                key: row.key,
            };
            let is_timed = row.total_ns > 0;
            let stats = RowStats {
                key_name: row.key_name,
                count: row.count,
                total_ns: row.total_ns,
                cost_ns: row.total_ns.saturating_sub(row.idle_ns),
                mean_ns: is_timed.then_some(row.mean_ns),
                p99_ns: is_timed.then_some(row.p99_ns),
            };
            (id, stats)
        });
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
            selection: report.selection,
            preempt_watched: report.preempt_watched,
            by,
            elapsed_ns: report.elapsed_ns,
            rows: merge_by_id(rows),
            hidden_rows: report.row_count.saturating_sub(shown_rows),
            is_incomplete: report.loss.values().any(|lost| lost.unwrap_or(0) > 0),
        })
    }

    /// Sets the path of the file, which comparisons name.
    #[must_use]
    pub fn with_file(mut self, file: String) -> Self {
        self.origin.file = file;
        self
    }

    /// Checks that a report of this selection can be compared with the baseline. A baseline that does not state its own can be
    /// compared with any.
    ///
    /// # Errors
    /// [`BaselineError::OtherSelection`] or [`BaselineError::OtherPreempt`].
    pub fn check_selection(
        &self,
        selection: &SelectedBy,
        preempt_watched: bool,
    ) -> Result<(), BaselineError> {
        if let Some(theirs) = &self.selection
            && !theirs.selects_the_same(selection)
        {
            return Err(BaselineError::OtherSelection {
                theirs: theirs.command_line(),
                ours: selection.command_line(),
            });
        }
        match self.preempt_watched {
            Some(theirs) if theirs != preempt_watched => {
                let name = |is_watched| if is_watched { "with" } else { "without" };
                Err(BaselineError::OtherPreempt {
                    theirs: name(theirs),
                    ours: name(preempt_watched),
                })
            }
            _ => Ok(()),
        }
    }

    /// Checks that a report with this kind and grouping can be compared with the baseline.
    ///
    /// # Errors
    /// [`BaselineError::OtherKind`] or [`BaselineError::OtherGroups`].
    pub fn check(&self, kind: &str, by: &[&str]) -> Result<(), BaselineError> {
        if self.kind != kind {
            return Err(BaselineError::OtherKind {
                theirs: self.kind.clone(),
                ours: kind.to_owned(),
            });
        }
        let is_same = |theirs: &Vec<String>| {
            theirs.iter().all(|it| by.contains(&it.as_str()))
                && by.iter().all(|it| theirs.iter().any(|their| their == it))
        };
        match &self.by {
            Some(theirs) if !is_same(theirs) => Err(BaselineError::OtherGroups {
                theirs: theirs.join(","),
                ours: by.join(","),
            }),
            _ => Ok(()),
        }
    }
}

/// Infers the grouping from the fields that a row has.
fn infer_grouping(row: &JsonRow) -> Vec<String> {
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
    use super::*;
    use proptest::prelude::*;

    const REPORT: &str = r#"{"view":"exits","elapsed_ns":1000,"row_count":3,"new_field":{"a":[1]},"loss":{"lost":0},"rows":[
        {"vm":"web","pid":7,"vcpu":0,"reason":"hlt","count":4,"time_ns":400,"idle_ns":300,"mean_ns":100,"p99_ns":150},
        {"vm":"web","pid":7,"vcpu":0,"reason":"hlt","count":12,"total_ns":400,"idle_ns":0,"mean_ns":20,"p99_ns":50}]}"#;

    fn report_line() -> String {
        REPORT.replace('\n', " ")
    }

    #[test]
    fn the_last_report_is_used_and_rows_with_the_same_id_are_merged() {
        let text = format!("{{\"view\":\"exits\"}}\nnot JSON\n{}\n\n", report_line());
        let baseline = Baseline::read(text.as_bytes()).unwrap();
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
                total_ns: 800,
                cost_ns: 500,
                mean_ns: Some(40),
                p99_ns: None,
            }
        );
        assert_eq!(baseline.rows.len(), 1);
        assert_eq!(baseline.check("vmexit", &["reason", "vcpu", "vm"]), Ok(()));
    }

    #[test]
    fn the_pid_is_removed_from_the_name_of_a_vm_without_a_name() {
        assert_eq!(
            stable_vm_name("qemu-system-x86-158", Some(158)),
            "qemu-system-x86"
        );
        assert_eq!(stable_vm_name("web-158", Some(7)), "web-158");
        assert_eq!(stable_vm_name("web", None), "web");
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
            let error = Baseline::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn another_kind_or_grouping_is_refused() {
        let baseline = Baseline::read(report_line().as_bytes()).unwrap();
        let error = baseline.check("msr", &["vm"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "it was made with --kind vmexit, but --kind msr is requested: use --kind vmexit, or make the baseline again"
        );
        let error = baseline.check("vmexit", &["reason"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its rows are grouped by vm,vcpu,reason, but --by reason is requested: use --by vm,vcpu,reason, or make the baseline again"
        );
        // Without rows, the grouping cannot be inferred.
        let empty = br#"{"view":"exits","elapsed_ns":1,"rows":[]}"#;
        let empty = Baseline::read(&empty[..]).unwrap();
        assert_eq!(empty.check("vmexit", &["vm"]), Ok(()));
        let with_grouping = br#"{"view":"exits","elapsed_ns":1,"by":["reason"],"rows":[]}"#;
        let with_grouping = Baseline::read(&with_grouping[..]).unwrap();
        assert!(with_grouping.check("vmexit", &["vm"]).is_err());
    }

    #[test]
    fn another_selection_is_refused() {
        let read = |fields: &str| {
            let text = format!(r#"{{"view":"exits","elapsed_ns":1,{fields}"rows":[]}}"#);
            Baseline::read(text.as_bytes()).unwrap()
        };
        let web = SelectedBy {
            vm: vec!["web".to_owned()],
            ..SelectedBy::default()
        };
        let of_db = read(r#""selection":{"vm":["db"],"pid":[7],"from":"1s"},"#);
        let error = of_db.check_selection(&web, false).unwrap_err().to_string();
        assert_eq!(
            error,
            "its selection is --vm db -p 7, but the selection of this command is --vm web: select the same, or make the baseline again"
        );
        let of_web = read(r#""selection":{"vm":["web"],"until":"1s"},"preempt_watched":true,"#);
        assert_eq!(of_web.check_selection(&web, true), Ok(()));
        let error = of_web.check_selection(&web, false).unwrap_err().to_string();
        assert!(
            error.starts_with("it was made with preempted time, but this report is without it"),
            "{error}"
        );
        assert!(
            of_web
                .check_selection(&SelectedBy::default(), true)
                .is_err()
        );
        // A report that states no selection can be compared with any.
        assert_eq!(read("").check_selection(&web, true), Ok(()));
    }

    proptest! {
        #[test]
        fn damaged_json_never_panics(at in 0usize..500, byte: u8, cut in 0usize..500) {
            let mut text = report_line().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = Baseline::read(&text[..]);
            text.truncate(cut);
            let _ = Baseline::read(&text[..]);
        }
    }
}
