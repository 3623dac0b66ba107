//! What changed since an earlier report: of each row its rate, its times, and by how much they differ.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    baseline::{Baseline, Measured, Of, by_what},
    report::{ExitsReport, SortKey},
};
use crate::model::Loss;

/// In which of the reports a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiffState {
    /// In both.
    Both,
    /// Not in the baseline.
    New,
    /// Only in the baseline.
    Gone,
}

impl DiffState {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// A number that there always is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateChange {
    /// In the baseline.
    pub before: f64,
    /// In this report.
    pub now: f64,
    /// By how much it is more.
    pub change: f64,
}

/// A time in ns; `None` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeChange {
    /// In the baseline.
    pub before: Option<u64>,
    /// In this report.
    pub now: Option<u64>,
    /// By how much it is more, if it is in both.
    pub change: Option<i64>,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffRow {
    /// The VM's name; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The vCPU's index; only if grouped by vCPU and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Why; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What, where another kind of event is counted than exits by their reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What its number stands for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In which of the reports it is.
    pub state: DiffState,
    /// Exits in this report.
    pub count: u64,
    /// Exits in the baseline.
    pub baseline_count: u64,
    /// Exits per second.
    pub rate_per_s: RateChange,
    /// Of each second, time from exit to next entry.
    pub time_ns_per_s: TimeChange,
    /// Of it, not idle.
    pub busy_ns_per_s: TimeChange,
    /// The mean time.
    pub mean_ns: TimeChange,
    /// The 99th percentile, within 5 %.
    pub p99_ns: TimeChange,
}

/// What changed since an earlier report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffReport {
    /// Always `exits_diff`.
    pub view: &'static str,
    /// What is counted.
    pub kind: String,
    /// What rows are told apart by.
    pub by: Vec<&'static str>,
    /// From the start of the measurement to the start of this report's time.
    pub start_ns: u64,
    /// How long this report's time is.
    pub elapsed_ns: u64,
    /// How long the baseline's was.
    pub baseline_elapsed_ns: u64,
    /// Rows there are; `rows` may have fewer.
    pub row_count: usize,
    /// The rows.
    pub rows: Vec<DiffRow>,
    /// Rows that the baseline does not have because `--top` left them out: what is new may be among them.
    pub baseline_left_out: u64,
    /// Something is missing from the baseline's numbers.
    pub baseline_incomplete: bool,
    /// What is missing from this report's numbers.
    pub loss: Loss,
}

impl DiffReport {
    /// What changed from the baseline to a report that has all its rows. By default what changed the most, in time that was
    /// not idle, comes first; with `sort`, what changed the most in that.
    #[must_use]
    pub fn of(
        report: &ExitsReport,
        baseline: &Baseline,
        sort: Option<SortKey>,
        top: Option<usize>,
    ) -> Self {
        let now = by_what(&report.rows);
        let all: BTreeSet<&Of> = now.keys().chain(baseline.rows.keys()).collect();
        let elapsed_ns = (baseline.elapsed_ns, report.elapsed_ns);
        let mut rows: Vec<_> = all
            .into_iter()
            .map(|of| row(of, (baseline.rows.get(of), now.get(of)), elapsed_ns))
            .collect();
        arrange(&mut rows, sort);
        let row_count = rows.len();
        rows.truncate(top.unwrap_or(usize::MAX));
        Self {
            view: "exits_diff",
            kind: report.kind.clone(),
            by: report.by.clone(),
            start_ns: report.start_ns,
            elapsed_ns: report.elapsed_ns,
            baseline_elapsed_ns: baseline.elapsed_ns,
            row_count,
            rows,
            baseline_left_out: baseline.left_out,
            baseline_incomplete: baseline.incomplete,
            loss: report.loss,
        }
    }

    /// Do rows have what they would be sorted by?
    #[must_use]
    pub fn can_sort(sort: SortKey) -> bool {
        !matches!(sort, SortKey::Min | SortKey::Max | SortKey::P50)
    }
}

fn row(
    of: &Of,
    (before, now): (Option<&Measured>, Option<&Measured>),
    (before_ns, now_ns): (u64, u64),
) -> DiffRow {
    let state = match (before, now) {
        (None, _) => DiffState::New,
        (_, None) => DiffState::Gone,
        _ => DiffState::Both,
    };
    let name = now.or(before).and_then(|it| it.name.clone());
    let nothing = Measured::default();
    let (before, now) = (before.unwrap_or(&nothing), now.unwrap_or(&nothing));
    let per_s = |field: fn(&Measured) -> u64| {
        TimeChange::of(
            Some(ns_per_s(field(before), before_ns)),
            Some(ns_per_s(field(now), now_ns)),
        )
    };
    DiffRow {
        vm: of.vm.clone(),
        vcpu: of.vcpu,
        reason: of.reason.clone(),
        key: of.key.clone(),
        name,
        state,
        count: now.count,
        baseline_count: before.count,
        rate_per_s: RateChange::of(rate(before.count, before_ns), rate(now.count, now_ns)),
        time_ns_per_s: per_s(|it| it.time_ns),
        busy_ns_per_s: per_s(|it| it.busy_ns),
        mean_ns: TimeChange::of(before.mean_ns, now.mean_ns),
        p99_ns: TimeChange::of(before.p99_ns, now.p99_ns),
    }
}

impl RateChange {
    fn of(before: f64, now: f64) -> Self {
        Self {
            before,
            now,
            change: now - before,
        }
    }
}

impl TimeChange {
    fn of(before: Option<u64>, now: Option<u64>) -> Self {
        let change = before.zip(now).map(|(before, now)| {
            let change = i128::from(now) - i128::from(before);
            i64::try_from(change).unwrap_or(if change < 0 { i64::MIN } else { i64::MAX })
        });
        Self {
            before,
            now,
            change,
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// 0 where there was no time: an interval may be that short.
#[expect(clippy::cast_precision_loss, reason = "a rate, for people and graphs")]
fn rate(count: u64, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 {
        0.0
    } else {
        count as f64 * SECOND_NS as f64 / elapsed_ns as f64
    }
}

fn ns_per_s(ns: u64, elapsed_ns: u64) -> u64 {
    let ns = u128::from(ns) * u128::from(SECOND_NS);
    let per_s = ns.checked_div(elapsed_ns.into()).unwrap_or(0);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}

fn arrange(rows: &mut [DiffRow], sort: Option<SortKey>) {
    let by = |change: fn(&DiffRow) -> &TimeChange| {
        move |a: &DiffRow, b: &DiffRow| {
            let size = |row: &DiffRow| change(row).change.map(i64::unsigned_abs);
            size(b).cmp(&size(a))
        }
    };
    // They come sorted by name; a stable sort keeps that among equals.
    match sort.unwrap_or(SortKey::Busy) {
        SortKey::Count => rows.sort_by(|a, b| {
            let size = |row: &DiffRow| row.rate_per_s.change.abs();
            size(b).total_cmp(&size(a))
        }),
        SortKey::Time => rows.sort_by(by(|row| &row.time_ns_per_s)),
        SortKey::Mean => rows.sort_by(by(|row| &row.mean_ns)),
        SortKey::P99 => rows.sort_by(by(|row| &row.p99_ns)),
        SortKey::Busy | SortKey::Min | SortKey::Max | SortKey::P50 => {
            rows.sort_by(by(|row| &row.busy_ns_per_s));
        }
        SortKey::Name => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_ebpf_common::Key;
    use proptest::prelude::*;

    use crate::{
        model::{ExitTotals, MinMax, ThreadExits, VcpuId},
        tracefs::ReasonNames,
        view::{ExitGroups, ExitsOptions, Group, KeyNames},
    };

    /// A report of so many exits of 1000 ns for each of these reasons.
    fn report(exits: &[(u64, u64)], elapsed_ns: u64) -> ExitsReport {
        let by = [Group::Reason, Group::Vm];
        let mut groups = ExitGroups::new(&by, None);
        for &(code, count) in exits {
            let mut totals = ExitTotals {
                count,
                total_ns: count.saturating_mul(1000),
                ..ExitTotals::default()
            };
            totals.histogram[100] = count;
            groups.add(&ThreadExits {
                vcpu_id: VcpuId {
                    tgid: 7,
                    vcpu: 0,
                    tid: 8,
                },
                key: Key {
                    code,
                    class: 2,
                    kind: 0,
                },
                totals: &totals,
                recent: MinMax::NONE,
                causes: None,
            });
        }
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            reasons: None,
            percentiles: Vec::new(),
            histograms: false,
            causes: 0,
            advice: false,
            preempt_watched: false,
        };
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted: None,
            causes: Vec::new(),
        };
        let vm_name = |_| "web".into();
        let times = (0, elapsed_ns);
        ExitsReport::of(&groups, times, Loss::default(), &options, &names, &vm_name)
    }

    fn baseline(report: &ExitsReport) -> Baseline {
        let json = serde_json::to_vec(report).unwrap();
        let baseline = Baseline::parse(&json).unwrap();
        baseline.check(&report.kind, &report.by).unwrap();
        baseline
    }

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let report = report(&[(1, 10), (2, 20)], SECOND_NS);
        let diff = DiffReport::of(&report, &baseline(&report), None, None);
        assert_eq!(diff.rows.len(), 2);
        for row in &diff.rows {
            assert_eq!(row.state, DiffState::Both);
            assert_eq!(row.rate_per_s.change, 0.0);
            for change in [
                row.time_ns_per_s,
                row.busy_ns_per_s,
                row.mean_ns,
                row.p99_ns,
            ] {
                assert_eq!(change.change, Some(0));
            }
        }
    }

    #[test]
    fn rates_are_compared_and_the_largest_change_comes_first() {
        let before = report(&[(1, 10), (2, 100), (3, 5)], SECOND_NS);
        // Twice as long: the first row has the same rate, the second half of it.
        let now = report(&[(1, 20), (2, 100), (4, 2000)], 2 * SECOND_NS);
        let diff = DiffReport::of(&now, &baseline(&before), None, None);
        let rows: Vec<_> = diff
            .rows
            .iter()
            .map(|row| {
                (
                    row.reason.as_deref().unwrap(),
                    row.state,
                    row.rate_per_s.change,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("UNKNOWN(0x4)", DiffState::New, 1000.0),
                ("UNKNOWN(0x2)", DiffState::Both, -50.0),
                ("UNKNOWN(0x3)", DiffState::Gone, -5.0),
                ("UNKNOWN(0x1)", DiffState::Both, 0.0),
            ]
        );
        let (new, gone) = (&diff.rows[0], &diff.rows[2]);
        assert_eq!(new.busy_ns_per_s.change, Some(1_000_000));
        assert_eq!((new.mean_ns.before, new.mean_ns.now), (None, Some(1000)));
        assert_eq!((gone.count, gone.baseline_count), (0, 5));
        assert_eq!((gone.mean_ns.now, gone.mean_ns.change), (None, None));
        let diff = DiffReport::of(&now, &baseline(&before), Some(SortKey::Name), Some(1));
        assert_eq!((diff.rows.len(), diff.row_count), (1, 4));
        assert_eq!(diff.rows[0].reason.as_deref(), Some("UNKNOWN(0x1)"));
    }

    proptest! {
        #[test]
        fn whatever_the_numbers_json_has_numbers(
            before in (1u64.., any::<u64>(), any::<u64>(), any::<u64>()),
            now in any::<(u64, u32)>(),
        ) {
            let (elapsed_ns, count, time_ns, mean_ns) = before;
            let json = format!(
                r#"{{"view":"exits","elapsed_ns":{elapsed_ns},"by":["vm","reason"],"rows":[
                {{"vm":"web","reason":"UNKNOWN(0x1)","count":{count},"time_ns":{time_ns},"mean_ns":{mean_ns},"p99_ns":{mean_ns}}},
                {{"vm":"web","reason":"UNKNOWN(0x1)","count":{count},"time_ns":{time_ns},"mean_ns":{mean_ns},"p99_ns":{mean_ns}}}]}}"#
            );
            let baseline = Baseline::parse(json.replace('\n', "").as_bytes()).unwrap();
            let report = report(&[(1, now.1.into())], now.0);
            let diff = DiffReport::of(&report, &baseline, None, None);
            for row in &diff.rows {
                let RateChange { before, now, change } = row.rate_per_s;
                prop_assert!(before.is_finite() && now.is_finite() && change.is_finite());
            }
            serde_json::to_string(&diff).unwrap();
        }
    }
}
