//! An earlier `exits` report, and with which reports it can be compared.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    baseline_error::BaselineError,
    row_stats::{RowId, RowStats},
};
use crate::view::SelectedBy;

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
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// The counted kind of event.
    pub(super) kind: String,
    /// Which report it is.
    pub(super) origin: BaselineOrigin,
    /// Of which VMs, vCPUs, threads and reasons it is, also because the recording was limited to them; `None` if the report
    /// does not state it.
    pub(super) selection: Option<SelectedBy>,
    /// Whether preemption was measured; `None` if the report does not state it.
    pub(super) preempt_watched: Option<bool>,
    /// The grouping of the rows; `None` if the report neither states it nor has a row to infer it
    /// from.
    pub(super) by: Option<Vec<String>>,
    /// Length of the report's interval; not 0.
    pub(super) elapsed_ns: u64,
    pub(super) rows: BTreeMap<RowId, RowStats>,
    /// Number of rows that `--top` hid.
    pub(super) hidden_rows: u64,
    /// Whether the report has losses.
    pub(super) is_incomplete: bool,
}

impl Baseline {
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

#[cfg(test)]
mod tests {
    use super::{super::baseline_json::MAX_BASELINE_FILE_BYTES, *};

    fn read(text: &str) -> Baseline {
        Baseline::read(text.as_bytes(), MAX_BASELINE_FILE_BYTES).unwrap()
    }

    #[test]
    fn another_kind_or_grouping_is_refused() {
        let baseline = read(
            r#"{"view":"exits","elapsed_ns":1,"rows":[{"vm":"web","vcpu":0,"reason":"hlt","count":4,"total_ns":400,"mean_ns":100,"p99_ns":150}]}"#,
        );
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
        let empty = read(r#"{"view":"exits","elapsed_ns":1,"rows":[]}"#);
        assert_eq!(empty.check("vmexit", &["vm"]), Ok(()));
        let with_grouping = read(r#"{"view":"exits","elapsed_ns":1,"by":["reason"],"rows":[]}"#);
        assert!(with_grouping.check("vmexit", &["vm"]).is_err());
    }

    #[test]
    fn another_selection_is_refused() {
        let read = |fields: &str| {
            read(&format!(
                r#"{{"view":"exits","elapsed_ns":1,{fields}"rows":[]}}"#
            ))
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
        let of_recording =
            read(r#""selection":{},"recording_selection":{"vm":["web"],"event":["kvm_exit"]},"#);
        assert_eq!(of_recording.check_selection(&web, true), Ok(()));
        // A report that states no selection can be compared with any.
        assert_eq!(read("").check_selection(&web, true), Ok(()));
    }
}
