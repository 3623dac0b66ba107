//! CSV reports: a header line and a line per row. Numbers have no separators, times are in ns.
//!
//! Each kind of loss has a row of its own, so that every reader of the file sees it.

use std::io::{self, Write};

use csv::Writer;

use crate::{
    model::Loss,
    view::{DiffReport, ExitsReport, StatReport, TimeChange},
};

/// Returns the name and count of each kind of loss, including those that are 0. The count is empty if
/// it is not known.
fn loss_rows(loss: &Loss) -> impl Iterator<Item = (&'static str, String)> {
    let entries = loss.entries().into_iter();
    entries.map(|it| (it.name, cell(it.count)))
}

fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Writes a `stat` report. `header` is false for all but the first of several interval reports.
///
/// # Errors
/// When writing fails.
pub fn write_stat(report: &StatReport, header: bool, out: &mut impl Write) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    if header {
        csv.write_record([
            "start_ns",
            "elapsed_ns",
            "host",
            "vm",
            "pid",
            "event",
            "count",
            "rate_per_s",
        ])?;
    }
    let start = report.start_ns.to_string();
    let elapsed = report.elapsed_ns.to_string();
    let mut row = |[host, vm, pid]: [&str; 3], event: &str, count: &str, rate: Option<f64>| {
        let rate = cell(rate.map(|rate| format!("{rate:.3}")));
        csv.write_record([&start, &elapsed, host, vm, pid, event, count, &rate])
    };
    for event in &report.events {
        let count = event.count.to_string();
        row([""; 3], &event.event, &count, Some(event.rate_per_s))?;
    }
    for vm in &report.vms {
        for event in &vm.events {
            let pid = vm.pid.to_string();
            row(
                [vm.host.as_deref().unwrap_or_default(), &vm.vm, &pid],
                &event.event,
                &event.count.to_string(),
                Some(event.rate_per_s),
            )?;
        }
    }
    for (kind, count) in loss_rows(&report.loss) {
        row([""; 3], &format!("loss:{kind}"), &count, None)?;
    }
    csv.flush()
}

/// Writes an `exits` report. `header` is false for all but the first of several interval reports.
///
/// # Errors
/// When writing fails.
pub fn write_exits(report: &ExitsReport, header: bool, out: &mut impl Write) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    let span = [report.start_ns, report.elapsed_ns].map(|it| it.to_string());
    // The requested percentiles are further columns. Every row has the same ones.
    let percentiles = report.rows.first().map_or(&[][..], |row| &row.percentiles);
    if header {
        let names = percentiles.iter().map(|it| format!("p{}_ns", it.percent));
        csv.write_record(EXIT_COLUMNS.iter().map(|it| (*it).to_owned()).chain(names))?;
    }
    for row in &report.rows {
        let cells = [
            cell(row.host.as_ref()),
            cell(row.vm.as_ref()),
            cell(row.pid),
            cell(row.vcpu),
            cell(row.tid),
            cell(row.reason.as_ref()),
            cell(row.reason_code),
            cell(row.isa),
            cell(row.key.as_ref()),
            cell(row.name.as_ref()),
            cell(row.code),
            cell(row.class),
            row.count.to_string(),
            row.open.to_string(),
            row.untimed.to_string(),
            format!("{:.6}", row.count_ratio),
            row.time_ns.to_string(),
            format!("{:.6}", row.time_ratio),
            format!("{:.6}", row.busy_ratio),
            row.idle_ns.to_string(),
            row.kernel_ns.to_string(),
            row.vmm_ns.to_string(),
            row.halted_ns.to_string(),
            row.preempted_ns.to_string(),
            row.min_ns.to_string(),
            row.mean_ns.to_string(),
            row.max_ns.to_string(),
            row.p50_ns.to_string(),
            row.p99_ns.to_string(),
        ];
        let percentiles = row.percentiles.iter().map(|it| it.ns.to_string());
        csv.write_record(span.iter().cloned().chain(cells).chain(percentiles))?;
    }
    for (kind, count) in loss_rows(&report.loss) {
        let mut record = vec![String::new(); EXIT_COLUMNS.len() + percentiles.len()];
        record[..2].clone_from_slice(&span);
        for (column, value) in [
            ("reason", format!("loss:{kind}")),
            ("count", count.to_string()),
        ] {
            if let Some(at) = EXIT_COLUMNS.iter().position(|it| *it == column) {
                record[at] = value;
            }
        }
        csv.write_record(record)?;
    }
    csv.flush()
}

/// Writes a comparison with a baseline. `header` is false for all but the first of several interval
/// reports.
///
/// # Errors
/// When writing fails.
pub fn write_exits_diff(report: &DiffReport, header: bool, out: &mut impl Write) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    if header {
        let times = DIFF_TIMES
            .iter()
            .flat_map(|time| ["before", "now", "change"].map(|which| format!("{time}_{which}")));
        csv.write_record(DIFF_COLUMNS.iter().map(|it| (*it).to_owned()).chain(times))?;
    }
    let span = [
        report.start_ns,
        report.elapsed_ns,
        report.baseline_elapsed_ns,
    ]
    .map(|it| it.to_string());
    for row in &report.rows {
        let rate = row.rate_per_s;
        let cells = [
            cell(row.vm.as_ref()),
            cell(row.vcpu),
            cell(row.reason.as_ref()),
            cell(row.key.as_ref()),
            cell(row.name.as_ref()),
            row.state.name().to_owned(),
            row.baseline_count.to_string(),
            row.count.to_string(),
            format!("{:.3}", rate.before),
            format!("{:.3}", rate.now),
            format!("{:.3}", rate.change),
        ];
        let times = [
            &row.time_ns_per_s,
            &row.busy_ns_per_s,
            &row.mean_ns,
            &row.p99_ns,
        ]
        .into_iter()
        .flat_map(
            |TimeChange {
                 before,
                 now,
                 change,
             }| [cell(*before), cell(*now), cell(*change)],
        );
        csv.write_record(span.iter().cloned().chain(cells).chain(times))?;
    }
    for (kind, count) in loss_rows(&report.loss) {
        let mut record = vec![String::new(); DIFF_COLUMNS.len() + 3 * DIFF_TIMES.len()];
        record[..3].clone_from_slice(&span);
        for (column, value) in [
            ("reason", format!("loss:{kind}")),
            ("count", count.to_string()),
        ] {
            if let Some(at) = DIFF_COLUMNS.iter().position(|it| *it == column) {
                record[at] = value;
            }
        }
        csv.write_record(record)?;
    }
    csv.flush()
}

const DIFF_COLUMNS: [&str; 14] = [
    "start_ns",
    "elapsed_ns",
    "baseline_elapsed_ns",
    "vm",
    "vcpu",
    "reason",
    "key",
    "name",
    "state",
    "baseline_count",
    "count",
    "rate_per_s_before",
    "rate_per_s_now",
    "rate_per_s_change",
];

/// Times with three columns each: `_before`, `_now` and `_change`.
const DIFF_TIMES: [&str; 4] = ["time_ns_per_s", "busy_ns_per_s", "mean_ns", "p99_ns"];

const EXIT_COLUMNS: [&str; 31] = [
    "start_ns",
    "elapsed_ns",
    "host",
    "vm",
    "pid",
    "vcpu",
    "tid",
    "reason",
    "reason_code",
    "isa",
    "key",
    "name",
    "code",
    "class",
    "count",
    "open",
    "untimed",
    "count_ratio",
    "time_ns",
    "time_ratio",
    "busy_ratio",
    "idle_ns",
    "kernel_ns",
    "vmm_ns",
    "halted_ns",
    "preempted_ns",
    "min_ns",
    "mean_ns",
    "max_ns",
    "p50_ns",
    "p99_ns",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{DiffRow, DiffState, RateChange, StatEvent};

    #[test]
    fn a_diff_has_one_column_per_number() {
        let times = TimeChange {
            before: None,
            now: Some(5),
            change: None,
        };
        let report = DiffReport {
            view: "exits_diff",
            kind: "vmexit".into(),
            by: vec!["reason"],
            start_ns: 0,
            elapsed_ns: 10,
            baseline_elapsed_ns: 20,
            row_count: 1,
            rows: vec![DiffRow {
                vm: None,
                vcpu: None,
                reason: Some("hlt".into()),
                key: None,
                name: None,
                state: DiffState::New,
                count: 3,
                baseline_count: 0,
                rate_per_s: RateChange {
                    before: 0.0,
                    now: 1.5,
                    change: 1.5,
                },
                time_ns_per_s: times,
                busy_ns_per_s: times,
                mean_ns: times,
                p99_ns: times,
            }],
            baseline_left_out: 0,
            baseline_incomplete: false,
            loss: Loss::default(),
        };
        let mut out = Vec::new();
        write_exits_diff(&report, true, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(",mean_ns_change,p99_ns_before,p99_ns_now,p99_ns_change"));
        assert_eq!(
            lines[1],
            "0,10,20,,,hlt,,,new,0,3,0.000,1.500,1.500,,5,,,5,,,5,,,5,"
        );
        assert!(
            lines[2].starts_with("0,10,20,,,loss:lost,,,,,0,"),
            "{}",
            lines[2]
        );
        assert_eq!(lines.len(), 2 + Loss::default().entries().len());
    }

    #[test]
    fn stat_has_one_line_per_event_and_kind_of_loss() {
        let report = StatReport {
            view: "stat",
            start_ns: 0,
            elapsed_ns: 2_000_000_000,
            events: vec![StatEvent {
                event: "kvm:kvm_exit".into(),
                count: 5,
                rate_per_s: 2.5,
            }],
            vms: Vec::new(),
            loss: Loss {
                lost: 1,
                ..Loss::default()
            },
        };
        let mut out = Vec::new();
        write_stat(&report, true, &mut out).unwrap();
        write_stat(&report, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "start_ns,elapsed_ns,host,vm,pid,event,count,rate_per_s"
        );
        assert_eq!(lines[1], "0,2000000000,,,,kvm:kvm_exit,5,2.500");
        assert_eq!(lines[2], "0,2000000000,,,,loss:lost,1,");
        assert_eq!(lines.len(), 1 + 2 * (1 + Loss::default().entries().len()));
    }
}
