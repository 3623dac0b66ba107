//! An earlier report of `exits`, read back from its JSON.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::report::ExitRow;

/// An earlier report of `exits`, to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// What was counted.
    pub(super) kind: String,
    /// What its rows are told apart by; `None` if it does not say, and has no rows that would show.
    by: Option<Vec<String>>,
    /// How long it was watched; not 0.
    pub(super) elapsed_ns: u64,
    /// What was measured, by what it is of.
    pub(super) rows: BTreeMap<Of, Measured>,
    /// How many rows `--top` left out then.
    pub(super) left_out: u64,
    /// Something is missing from its numbers.
    pub(super) incomplete: bool,
}

/// Why something is no report to compare with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// Its last line is not JSON.
    #[error("line {line} is not JSON ({reason}): is it complete, and of `exits --json`?")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is JSON of something else.
    #[error("{0}: a baseline is what `exits --json` writes")]
    OtherView(String),
    /// A field is missing, or has a value that it cannot have.
    #[error("line {line} is no report of `exits`: {reason}")]
    NotReport {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is of no time, so that there are no rates.
    #[error("its `elapsed_ns` is 0: there are no rates to compare with")]
    NoTime,
    /// It counts something else.
    #[error("it is of --kind {theirs}, and asked for is --kind {ours}")]
    OtherKind {
        /// What it counts.
        theirs: String,
        /// What is asked for.
        ours: String,
    },
    /// Its rows are others.
    #[error("its rows are --by {theirs}, and asked for is --by {ours}")]
    OtherGroups {
        /// What its rows are told apart by.
        theirs: String,
        /// What is asked for.
        ours: String,
    },
}

/// What a row is of, in words that mean the same in another run: processes and threads have other numbers then.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Of {
    pub vm: Option<String>,
    /// The index; `None` also where it is not known.
    pub vcpu: Option<u32>,
    pub reason: Option<String>,
    pub key: Option<String>,
}

/// What was measured of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub name: Option<String>,
    pub count: u64,
    pub time_ns: u64,
    pub busy_ns: u64,
    /// `None` if none has a time.
    pub mean_ns: Option<u64>,
    /// `None` also where rows came together: percentiles cannot be added.
    pub p99_ns: Option<u64>,
}

impl Measured {
    fn merge(&mut self, other: Self) {
        let weighted = [(self.mean_ns, self.count), (other.mean_ns, other.count)]
            .into_iter()
            .filter_map(|(mean_ns, count)| Some((u128::from(mean_ns?), u128::from(count))));
        let (sum, count) = weighted.fold((0_u128, 0_u128), |(sum, all), (mean_ns, count)| {
            (
                sum.saturating_add(mean_ns.saturating_mul(count)),
                all + count,
            )
        });
        self.mean_ns = sum
            .checked_div(count)
            .and_then(|mean_ns| u64::try_from(mean_ns).ok());
        self.count = self.count.saturating_add(other.count);
        self.time_ns = self.time_ns.saturating_add(other.time_ns);
        self.busy_ns = self.busy_ns.saturating_add(other.busy_ns);
        self.p99_ns = None;
    }
}

/// A VM without a name goes by that of its program and its process's number, which is another in the next run.
fn lasting(vm: &str, pid: Option<u32>) -> String {
    let program = pid.and_then(|pid| vm.strip_suffix(&format!("-{pid}")));
    program.unwrap_or(vm).to_owned()
}

/// Rows by what they are of. VMs of the same name, and vCPUs whose index is not known, come together.
pub(super) fn by_what<'a>(rows: impl IntoIterator<Item = &'a ExitRow>) -> BTreeMap<Of, Measured> {
    collect(rows.into_iter().map(|row| {
        let of = Of {
            vm: row.vm.as_deref().map(|vm| lasting(vm, row.pid)),
            vcpu: row.vcpu,
            reason: row.reason.clone(),
            key: row.key.clone(),
        };
        let timed = row.time_ns > 0;
        let measured = Measured {
            name: row.name.clone(),
            count: row.count,
            time_ns: row.time_ns,
            busy_ns: row.time_ns.saturating_sub(row.idle_ns),
            mean_ns: timed.then_some(row.mean_ns),
            p99_ns: timed.then_some(row.p99_ns),
        };
        (of, measured)
    }))
}

fn collect(rows: impl IntoIterator<Item = (Of, Measured)>) -> BTreeMap<Of, Measured> {
    let mut all = BTreeMap::new();
    for (of, measured) in rows {
        match all.entry(of) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(measured);
            }
            std::collections::btree_map::Entry::Occupied(mut other) => {
                other.get_mut().merge(measured);
            }
        }
    }
    all
}

/// What of a line says whether the rest is worth reading.
#[derive(Deserialize)]
struct View {
    view: Option<String>,
}

/// What of a report is compared. What it has besides, and what a later version may add, is ignored.
#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    by: Option<Vec<String>>,
    elapsed_ns: u64,
    #[serde(default)]
    row_count: u64,
    rows: Vec<Row>,
    #[serde(default)]
    /// `null` where the kernel could not say.
    loss: BTreeMap<String, Option<u64>>,
}

#[derive(Deserialize)]
struct Row {
    vm: Option<String>,
    pid: Option<u32>,
    vcpu: Option<u32>,
    tid: Option<u32>,
    reason: Option<String>,
    key: Option<String>,
    name: Option<String>,
    count: u64,
    time_ns: u64,
    #[serde(default)]
    idle_ns: u64,
    mean_ns: u64,
    p99_ns: u64,
}

impl Baseline {
    /// Reads what `exits --json` wrote; of several reports the last, which is of the whole time.
    ///
    /// # Errors
    /// [`BaselineError`] says why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, BaselineError> {
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        let last = lines
            .filter(|(_, text)| !text.trim_ascii().is_empty())
            .last();
        let (index, text) = last.ok_or(BaselineError::Empty)?;
        let line = index + 1;
        let View { view } =
            serde_json::from_slice(text).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => {
                    BaselineError::OtherView("it is JSON, but no report".into())
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
                    "it ends with slow exits, without the report that comes after them".into(),
                ));
            }
            Some(other) => {
                return Err(BaselineError::OtherView(format!("its view is {other:?}")));
            }
            None => return Err(BaselineError::OtherView("it has no `view`".into())),
        }
        let report: Report =
            serde_json::from_slice(text).map_err(|error| BaselineError::NotReport {
                line,
                reason: error.to_string(),
            })?;
        Self::of(report)
    }

    fn of(report: Report) -> Result<Self, BaselineError> {
        if report.elapsed_ns == 0 {
            return Err(BaselineError::NoTime);
        }
        let by = report.by.or_else(|| report.rows.first().map(shown_by));
        let rows_there = report.rows.len() as u64;
        let rows = report.rows.into_iter().map(|row| {
            let of = Of {
                vm: row.vm.as_deref().map(|vm| lasting(vm, row.pid)),
                vcpu: row.vcpu,
                reason: row.reason,
                key: row.key,
            };
            let timed = row.time_ns > 0;
            let measured = Measured {
                name: row.name,
                count: row.count,
                time_ns: row.time_ns,
                busy_ns: row.time_ns.saturating_sub(row.idle_ns),
                mean_ns: timed.then_some(row.mean_ns),
                p99_ns: timed.then_some(row.p99_ns),
            };
            (of, measured)
        });
        Ok(Self {
            kind: report
                .kind
                .unwrap_or_else(|| crate::model::VMEXIT.to_owned()),
            by,
            elapsed_ns: report.elapsed_ns,
            rows: collect(rows),
            left_out: report.row_count.saturating_sub(rows_there),
            incomplete: report.loss.values().any(|lost| lost.unwrap_or(0) > 0),
        })
    }

    /// Can a report of this kind, with rows told apart by this, be compared with it?
    ///
    /// # Errors
    /// [`BaselineError::OtherKind`] and [`BaselineError::OtherGroups`].
    pub fn check(&self, kind: &str, by: &[&str]) -> Result<(), BaselineError> {
        if self.kind != kind {
            return Err(BaselineError::OtherKind {
                theirs: self.kind.clone(),
                ours: kind.to_owned(),
            });
        }
        let same = |theirs: &Vec<String>| {
            theirs.iter().all(|it| by.contains(&it.as_str()))
                && by.iter().all(|it| theirs.iter().any(|their| their == it))
        };
        match &self.by {
            Some(theirs) if !same(theirs) => Err(BaselineError::OtherGroups {
                theirs: theirs.join(","),
                ours: by.join(","),
            }),
            _ => Ok(()),
        }
    }
}

/// What a row's fields say that rows are told apart by.
fn shown_by(row: &Row) -> Vec<String> {
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

    const GOOD: &str = r#"{"view":"exits","elapsed_ns":1000,"row_count":3,"new_field":{"a":[1]},"loss":{"lost":0},"rows":[
        {"vm":"web","pid":7,"vcpu":0,"reason":"hlt","count":4,"time_ns":400,"idle_ns":300,"mean_ns":100,"p99_ns":150},
        {"vm":"web","pid":8,"vcpu":0,"reason":"hlt","count":12,"time_ns":400,"idle_ns":0,"mean_ns":20,"p99_ns":50}]}"#;

    fn good() -> String {
        GOOD.replace('\n', " ")
    }

    #[test]
    fn the_last_report_counts_and_equal_rows_come_together() {
        let text = format!("{{\"view\":\"exits\"}}\nnot JSON\n{}\n\n", good());
        let baseline = Baseline::parse(text.as_bytes()).unwrap();
        assert_eq!(baseline.kind, "vmexit");
        assert_eq!(baseline.left_out, 1);
        assert!(!baseline.incomplete);
        let (of, measured) = baseline.rows.first_key_value().unwrap();
        assert_eq!((of.vm.as_deref(), of.vcpu), (Some("web"), Some(0)));
        assert_eq!(
            *measured,
            Measured {
                name: None,
                count: 16,
                time_ns: 800,
                busy_ns: 500,
                mean_ns: Some(40),
                p99_ns: None,
            }
        );
        assert_eq!(baseline.rows.len(), 1);
        assert_eq!(baseline.check("vmexit", &["reason", "vcpu", "vm"]), Ok(()));
    }

    #[test]
    fn a_vm_without_a_name_is_found_again() {
        assert_eq!(lasting("qemu-system-x86-158", Some(158)), "qemu-system-x86");
        assert_eq!(lasting("web-158", Some(7)), "web-158");
        assert_eq!(lasting("web", None), "web");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cut = &good()[..200];
        for (text, expected) in [
            ("", "it is empty"),
            (" \n\n", "it is empty"),
            ("hello", "line 1 is not JSON"),
            (cut, "line 1 is not JSON (EOF"),
            ("[1]", "it is JSON, but no report"),
            ("7", "it is JSON, but no report"),
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
            let error = Baseline::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn another_kind_or_grouping_is_refused() {
        let baseline = Baseline::parse(good().as_bytes()).unwrap();
        let error = baseline.check("msr", &["vm"]).unwrap_err().to_string();
        assert_eq!(error, "it is of --kind vmexit, and asked for is --kind msr");
        let error = baseline.check("vmexit", &["reason"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its rows are --by vm,vcpu,reason, and asked for is --by reason"
        );
        // Without rows nothing shows what they would be told apart by.
        let empty = br#"{"view":"exits","elapsed_ns":1,"rows":[]}"#;
        let empty = Baseline::parse(empty).unwrap();
        assert_eq!(empty.check("vmexit", &["vm"]), Ok(()));
        let says = br#"{"view":"exits","elapsed_ns":1,"by":["reason"],"rows":[]}"#;
        let says = Baseline::parse(says).unwrap();
        assert!(says.check("vmexit", &["vm"]).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(at in 0usize..500, byte: u8, cut in 0usize..500) {
            let mut text = good().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = Baseline::parse(&text);
            text.truncate(cut);
            let _ = Baseline::parse(&text);
        }
    }
}
