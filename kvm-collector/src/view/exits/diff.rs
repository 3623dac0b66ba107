//! Compares an `exits` report with a baseline: rates and times of each row, and their changes.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    baseline::{Baseline, BaselineOrigin},
    change::{RateChange, TimeChange},
    host_rates::RowRates,
    options::SortKey,
    report::ExitsReport,
    row_stats::{RowId, RowStats, remove_unneeded_pids, stats_by_row},
};
use crate::model::Loss;

/// Which of the reports contain a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiffState {
    /// Both reports.
    Both,
    /// Only the current report.
    New,
    /// Only the baseline.
    Gone,
}

impl DiffState {
    /// Returns the name in JSON and CSV.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// The changes of one row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffRow {
    /// Name of the VM; only if grouped by VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// PID of the VMM; only if several VMs have this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Index of the vCPU; only if grouped by vCPU and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Exit reason; only if grouped by reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Label of the counted event, if other events than exits are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Known name of the number in `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Which of the reports contain the row.
    pub state: DiffState,
    /// Number of exits in this report.
    pub count: u64,
    /// Number of exits in the baseline.
    pub baseline_count: u64,
    /// Exits per second.
    pub rate_per_s: RateChange,
    /// Time from exit to next entry, per second.
    pub total_ns_per_s: TimeChange,
    /// Non-idle part of `total_ns_per_s`.
    pub cost_ns_per_s: TimeChange,
    /// Mean duration.
    pub mean_ns: TimeChange,
    /// 99th percentile of the durations, accurate to 5 %.
    pub p99_ns: TimeChange,
}

/// The comparison of a report with a baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiffReport {
    /// Always `exits_diff`.
    pub view: &'static str,
    /// The counted kind of event.
    pub kind: String,
    /// The grouping of the rows.
    pub by: Vec<&'static str>,
    /// Start of this report's interval, in ns since the start of the measurement.
    pub start_ns: u64,
    /// Length of this report's interval.
    pub elapsed_ns: u64,
    /// Which report the baseline is.
    pub baseline: BaselineOrigin,
    /// Length of the baseline's interval.
    pub baseline_elapsed_ns: u64,
    /// Number of rows, including those that `--top` hides.
    pub row_count: usize,
    /// The rows.
    pub rows: Vec<DiffRow>,
    /// Number of rows that `--top` hid in the baseline. Rows in state `new` may be among them.
    pub baseline_left_out: u64,
    /// Whether the baseline has losses.
    pub baseline_incomplete: bool,
    /// Losses of this report.
    pub loss: Loss,
}

impl DiffReport {
    /// Compares a report, which must have all of its rows, with a baseline.
    ///
    /// Rows with the largest change come first: the change of the non-idle time, or of `sort`. `top`
    /// is the maximum number of rows.
    #[must_use]
    pub fn compare(
        report: &ExitsReport,
        baseline: &Baseline,
        sort: Option<SortKey>,
        top: Option<usize>,
    ) -> Self {
        let now = stats_by_row(&report.rows, report.elapsed_ns);
        let [before, now] = remove_unneeded_pids([&baseline.rows, &now]);
        let ids: BTreeSet<&RowId> = now.keys().chain(before.keys()).collect();
        let mut rows: Vec<_> = ids
            .into_iter()
            .map(|id| diff_row(id, (before.get(id), now.get(id))))
            .collect();
        sort_rows(&mut rows, sort);
        let row_count = rows.len();
        rows.truncate(top.unwrap_or(usize::MAX));
        Self {
            view: "exits_diff",
            kind: report.kind.clone(),
            by: report.by.clone(),
            start_ns: report.start_ns,
            elapsed_ns: report.elapsed_ns,
            baseline: baseline.origin.clone(),
            baseline_elapsed_ns: baseline.elapsed_ns,
            row_count,
            rows,
            baseline_left_out: baseline.hidden_rows,
            baseline_incomplete: baseline.is_incomplete,
            loss: report.loss,
        }
    }

    /// Returns whether rows can be sorted by a key, that is, whether they have this number.
    #[must_use]
    pub fn can_sort(sort: SortKey) -> bool {
        !matches!(
            sort,
            SortKey::Min | SortKey::Max | SortKey::P50 | SortKey::Percentile(_)
        )
    }
}

fn diff_row(id: &RowId, (before, now): (Option<&RowStats>, Option<&RowStats>)) -> DiffRow {
    let state = match (before, now) {
        (None, _) => DiffState::New,
        (_, None) => DiffState::Gone,
        _ => DiffState::Both,
    };
    let key_name = now.or(before).and_then(|it| it.key_name.clone());
    let zero = RowStats::default();
    let (before, now) = (before.unwrap_or(&zero), now.unwrap_or(&zero));
    let (rates_before, rates) = (before.rates, now.rates);
    let per_s = |field: fn(&RowRates) -> u64| {
        TimeChange::new(Some(field(&rates_before)), Some(field(&rates)))
    };
    DiffRow {
        vm: id.vm.clone(),
        pid: id.pid,
        vcpu: id.vcpu,
        reason: id.reason.clone(),
        key: id.key.clone(),
        key_name,
        state,
        count: now.count,
        baseline_count: before.count,
        rate_per_s: RateChange::new(rates_before.rate_per_s, rates.rate_per_s),
        total_ns_per_s: per_s(|it| it.total_ns_per_s),
        cost_ns_per_s: per_s(|it| it.cost_ns_per_s),
        mean_ns: TimeChange::new(before.mean_ns, now.mean_ns),
        p99_ns: TimeChange::new(before.p99_ns, now.p99_ns),
    }
}

fn sort_rows(rows: &mut [DiffRow], sort: Option<SortKey>) {
    let by = |change: fn(&DiffRow) -> &TimeChange| {
        move |a: &DiffRow, b: &DiffRow| {
            let size = |row: &DiffRow| change(row).change.map(i64::unsigned_abs);
            size(b).cmp(&size(a))
        }
    };
    // The rows are sorted by name. The sort is stable, so equal rows keep this order.
    match sort.unwrap_or(SortKey::Cost) {
        SortKey::Count => rows.sort_by(|a, b| {
            let size = |row: &DiffRow| row.rate_per_s.change.abs();
            size(b).total_cmp(&size(a))
        }),
        SortKey::Time => rows.sort_by(by(|row| &row.total_ns_per_s)),
        SortKey::Mean => rows.sort_by(by(|row| &row.mean_ns)),
        SortKey::P99 => rows.sort_by(by(|row| &row.p99_ns)),
        SortKey::Cost | SortKey::Min | SortKey::Max | SortKey::P50 | SortKey::Percentile(_) => {
            rows.sort_by(by(|row| &row.cost_ns_per_s));
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
        view::{ExitGroups, ExitsOptions, GroupBy, KeyNames, exits::change::SECOND_NS},
    };

    /// Returns a report on exits of 1000 ns each: pairs of reason code and count.
    fn report(exits: &[(u64, u64)], elapsed_ns: u64) -> ExitsReport {
        let by = [GroupBy::Reason, GroupBy::Vm];
        let mut groups = ExitGroups::new(&by, None);
        for &(code, count) in exits {
            let mut totals = ExitTotals {
                count,
                total_ns: count.saturating_mul(1000),
                ..ExitTotals::default()
            };
            totals.histogram[100] = count;
            let exits = ThreadExits {
                vcpu_id: VcpuId {
                    tgid: 7,
                    vcpu: 0,
                    tid: 8,
                },
                key: Key {
                    code,
                    subcode: 2,
                    kind: 0,
                },
                totals: &totals,
                recent: MinMax::NONE,
                causes: None,
            };
            groups.add_exits(&exits, |_| false);
        }
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            percentiles: Vec::new(),
            histograms: false,
            causes: 0,
            advice: false,
            preempt_watched: false,
        };
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: None,
            cause_events: Vec::new(),
        };
        let vm_name = |_| "web".into();
        let times = (0, elapsed_ns);
        ExitsReport::from_groups(&groups, times, Loss::default(), &options, &names, &vm_name)
    }

    fn baseline(report: &ExitsReport) -> Baseline {
        let json = serde_json::to_vec(report).unwrap();
        let baseline = Baseline::read(&json[..], 1 << 20).unwrap();
        baseline.check(&report.kind, &report.by).unwrap();
        baseline
    }

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let report = report(&[(1, 10), (2, 20)], SECOND_NS);
        let diff = DiffReport::compare(&report, &baseline(&report), None, None);
        assert_eq!(diff.rows.len(), 2);
        for row in &diff.rows {
            assert_eq!(row.state, DiffState::Both);
            assert_eq!(row.rate_per_s.change, 0.0);
            for change in [
                row.total_ns_per_s,
                row.cost_ns_per_s,
                row.mean_ns,
                row.p99_ns,
            ] {
                assert_eq!(change.change, Some(0));
            }
        }
    }

    #[test]
    fn rates_are_compared_and_rows_sorted_by_change() {
        let before = report(&[(1, 10), (2, 100), (3, 5)], SECOND_NS);
        // The interval is twice as long: the first row has the same rate, the second row half of it.
        let now = report(&[(1, 20), (2, 100), (4, 2000)], 2 * SECOND_NS);
        let diff = DiffReport::compare(&now, &baseline(&before), None, None);
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
        assert_eq!(new.cost_ns_per_s.change, Some(1_000_000));
        assert_eq!((new.mean_ns.before, new.mean_ns.now), (None, Some(1000)));
        assert_eq!((gone.count, gone.baseline_count), (0, 5));
        assert_eq!((gone.mean_ns.now, gone.mean_ns.change), (None, None));
        let diff = DiffReport::compare(&now, &baseline(&before), Some(SortKey::Name), Some(1));
        assert_eq!((diff.rows.len(), diff.row_count), (1, 4));
        assert_eq!(diff.rows[0].reason.as_deref(), Some("UNKNOWN(0x1)"));
    }

    proptest! {
        #[test]
        fn changes_are_finite_for_any_numbers(
            before in (1u64.., any::<u64>(), any::<u64>(), any::<u64>()),
            now in any::<(u64, u32)>(),
        ) {
            let (elapsed_ns, count, total_ns, mean_ns) = before;
            let json = format!(
                r#"{{"view":"exits","elapsed_ns":{elapsed_ns},"by":["vm","reason"],"rows":[
                {{"vm":"web","reason":"UNKNOWN(0x1)","count":{count},"total_ns":{total_ns},"mean_ns":{mean_ns},"p99_ns":{mean_ns}}},
                {{"vm":"web","reason":"UNKNOWN(0x1)","count":{count},"total_ns":{total_ns},"mean_ns":{mean_ns},"p99_ns":{mean_ns}}}]}}"#
            );
            let baseline = Baseline::read(json.replace('\n', "").as_bytes(), 1 << 20).unwrap();
            let report = report(&[(1, now.1.into())], now.0);
            let diff = DiffReport::compare(&report, &baseline, None, None);
            for row in &diff.rows {
                let RateChange { before, now, change } = row.rate_per_s;
                prop_assert!(before.is_finite() && now.is_finite() && change.is_finite());
            }
            serde_json::to_string(&diff).unwrap();
        }
    }
}
