//! CSV reports: one table per file, with a header line and a line per row. Every row has the same kind of content, so columns can be
//! summed. Numbers have no separators, times are in ns, dates are in UTC (RFC 3339).
//!
//! Losses are not in the table: they would be another kind of row.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use csv::Writer;

use super::csv_text;
use crate::view::{
    DiffReport, ExitsReport, RecordedHost, ReportOrigin, StatEvent, StatReport, TimeChange,
};

/// The cell of a number.
fn cell(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// The cell of a text, which may be from outside.
fn text_cell(text: Option<&String>) -> String {
    text.map(|text| csv_text(text).into_owned())
        .unwrap_or_default()
}

/// Columns of every table: when and where a row was measured.
const PERIOD_COLUMNS: [&str; 4] = ["start", "host", "start_ns", "elapsed_ns"];

/// The cells of [`PERIOD_COLUMNS`]. `host` is that of the row and how long it was recorded, if the rows have different ones.
/// `start_ns` is the start of the interval, in ns of the clock of the events; `offset_ns` and `elapsed_ns` are its start, in ns since
/// the start of the measurement, and its length.
fn period_cells(
    origin: &ReportOrigin,
    host: Option<(&RecordedHost, u64)>,
    start_ns: Option<u64>,
    (offset_ns, elapsed_ns): (u64, u64),
) -> [String; 4] {
    let (host, elapsed_ns) = match host {
        Some((host, elapsed_ns)) => (host.name(), elapsed_ns),
        None => (origin.header.host.as_ref(), elapsed_ns),
    };
    [
        cell(start_ns.and_then(|start_ns| origin.utc(start_ns))),
        text_cell(host),
        offset_ns.to_string(),
        elapsed_ns.to_string(),
    ]
}

/// Writes a `stat` report: a row per event, or per VM and event if the report has VMs. The rows add up to all events: those of no
/// VM are in rows without one. Events that did not occur are omitted unless `zeros` is true. `header` is false for all but the first of several interval reports. `start_ns` is the start of the
/// interval, in ns of the clock of the events.
///
/// # Errors
/// When writing fails.
pub fn write_stat(
    report: &StatReport,
    origin: &ReportOrigin,
    start_ns: Option<u64>,
    (header, zeros): (bool, bool),
    out: &mut impl Write,
) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    if header {
        let columns = ["vm", "vm_uuid", "pid", "event", "count", "rate_per_s"];
        csv.write_record(PERIOD_COLUMNS.iter().chain(&columns))?;
    }
    let of_vms = report.vms.iter().flatten().flat_map(|vm| {
        let events = vm.events.iter();
        events.map(move |event| {
            let id = [
                text_cell(Some(&vm.vm)),
                cell(vm.vm_uuid),
                vm.pid.to_string(),
            ];
            (vm.host.as_ref().zip(vm.elapsed_ns), id, event.clone())
        })
    });
    let others = events_of_no_vm(report).into_iter();
    let others = others.map(|event| (None, Default::default(), event));
    for (host, [vm, vm_uuid, pid], event) in of_vms.chain(others) {
        if event.count == 0 && !zeros {
            continue;
        }
        let period = period_cells(origin, host, start_ns, (report.start_ns, report.elapsed_ns));
        let cells = [
            vm,
            vm_uuid,
            pid,
            text_cell(Some(&event.event)),
            event.count.to_string(),
            format!("{:.3}", event.rate_per_s),
        ];
        csv.write_record(period.iter().chain(&cells))?;
    }
    csv.flush()
}

/// Returns each event, without the occurrences in VMs of the report.
fn events_of_no_vm(report: &StatReport) -> Vec<StatEvent> {
    let mut of_vms: HashMap<&str, (u64, f64)> = HashMap::new();
    for event in report.vms.iter().flatten().flat_map(|vm| &vm.events) {
        let (count, rate_per_s) = of_vms.entry(&event.event).or_default();
        *count += event.count;
        *rate_per_s += event.rate_per_s;
    }
    let of_no_vm = |event: &StatEvent| {
        let (count, rate_per_s) = of_vms.get(&*event.event).copied().unwrap_or_default();
        StatEvent {
            event: event.event.clone(),
            count: event.count.saturating_sub(count),
            rate_per_s: (event.rate_per_s - rate_per_s).max(0.0),
        }
    };
    report.events.iter().map(of_no_vm).collect()
}

/// Writes an `exits` report. `header` is false for all but the first of several interval reports. `start_ns` is the start of the
/// interval, in ns of the clock of the events. `percentiles` are the requested ones, which are further columns except for the 50th and 99th.
///
/// # Errors
/// When writing fails.
pub fn write_exits(
    report: &ExitsReport,
    origin: &ReportOrigin,
    start_ns: Option<u64>,
    percentiles: &[f64],
    header: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    // Each table has these two.
    let is_further = |percent: f64| ![50.0, 99.0].contains(&percent);
    if header {
        let percentiles = percentiles.iter().filter(|it| is_further(**it));
        let percentiles = percentiles.map(|percent| format!("p{percent}_ns"));
        let names = PERIOD_COLUMNS.iter().chain(&EXIT_COLUMNS);
        csv.write_record(names.map(|it| (*it).to_owned()).chain(percentiles))?;
    }
    for row in &report.rows {
        let host = row.host.as_ref().zip(row.elapsed_ns);
        let period = period_cells(origin, host, start_ns, (report.start_ns, report.elapsed_ns));
        let cells = [
            text_cell(row.vm.as_ref()),
            cell(row.vm_uuid.flatten()),
            cell(row.pid),
            cell(row.vcpu),
            cell(row.tid),
            text_cell(row.reason.as_ref()),
            cell(row.reason_code),
            cell(row.isa),
            text_cell(row.key.as_ref()),
            text_cell(row.key_name.as_ref()),
            cell(row.code),
            cell(row.class),
            row.count.to_string(),
            row.open.to_string(),
            row.untimed.to_string(),
            format!("{:.6}", row.count_ratio),
            row.total_ns.to_string(),
            format!("{:.6}", row.time_ratio),
            format!("{:.6}", row.cost_ratio),
            row.idle_ns.to_string(),
            row.kernel_ns.to_string(),
            row.vmm_ns.to_string(),
            row.halted_ns.to_string(),
            cell(row.preempted_ns),
            row.min_ns.to_string(),
            row.mean_ns.to_string(),
            row.max_ns.to_string(),
            row.p50_ns.to_string(),
            row.p99_ns.to_string(),
        ];
        let percentiles = row.percentiles.iter().filter(|it| is_further(it.percent));
        let percentiles = percentiles.map(|it| it.ns.to_string());
        csv.write_record(period.iter().cloned().chain(cells).chain(percentiles))?;
    }
    csv.flush()
}

/// Writes a comparison with a baseline. `header` is false for all but the first of several interval
/// reports. `start_ns` is the start of the interval, in ns of the clock of the events.
///
/// # Errors
/// When writing fails.
pub fn write_exits_diff(
    report: &DiffReport,
    origin: &ReportOrigin,
    start_ns: Option<u64>,
    header: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut csv = Writer::from_writer(out);
    if header {
        let times = DIFF_TIMES
            .iter()
            .flat_map(|time| ["before", "now", "change"].map(|which| format!("{time}_{which}")));
        let names = PERIOD_COLUMNS.iter().chain(&DIFF_COLUMNS);
        csv.write_record(names.map(|it| (*it).to_owned()).chain(times))?;
    }
    let period = period_cells(origin, None, start_ns, (report.start_ns, report.elapsed_ns));
    for row in &report.rows {
        let rate = row.rate_per_s;
        let cells = [
            report.baseline_elapsed_ns.to_string(),
            text_cell(row.vm.as_ref()),
            cell(row.pid),
            cell(row.vcpu),
            text_cell(row.reason.as_ref()),
            text_cell(row.key.as_ref()),
            text_cell(row.key_name.as_ref()),
            row.state.name().to_owned(),
            row.baseline_count.to_string(),
            row.count.to_string(),
            format!("{:.3}", rate.before),
            format!("{:.3}", rate.now),
            format!("{:.3}", rate.change),
        ];
        let times = [
            &row.total_ns_per_s,
            &row.cost_ns_per_s,
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
        csv.write_record(period.iter().cloned().chain(cells).chain(times))?;
    }
    csv.flush()
}

const DIFF_COLUMNS: [&str; 13] = [
    "baseline_elapsed_ns",
    "vm",
    "pid",
    "vcpu",
    "reason",
    "key",
    "key_name",
    "state",
    "baseline_count",
    "count",
    "rate_per_s_before",
    "rate_per_s_now",
    "rate_per_s_change",
];

/// Times with three columns each: `_before`, `_now` and `_change`.
const DIFF_TIMES: [&str; 4] = ["total_ns_per_s", "cost_ns_per_s", "mean_ns", "p99_ns"];

const EXIT_COLUMNS: [&str; 29] = [
    "vm",
    "vm_uuid",
    "pid",
    "vcpu",
    "tid",
    "reason",
    "reason_code",
    "isa",
    "key",
    "key_name",
    "code",
    "class",
    "count",
    "open",
    "untimed",
    "count_ratio",
    "total_ns",
    "time_ratio",
    "cost_ratio",
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
    use crate::{
        model::{Loss, VmUuid},
        view::{BaselineOrigin, DiffRow, DiffState, RateChange, SelectedBy, StatEvent, StatVm},
    };

    #[test]
    fn a_diff_has_one_column_per_number_which_may_be_negative() {
        let times = TimeChange {
            before: None,
            now: Some(5),
            change: Some(-5),
        };
        let report = DiffReport {
            view: "exits_diff",
            kind: "vmexit".into(),
            by: vec!["reason"],
            start_ns: 0,
            elapsed_ns: 10,
            baseline: BaselineOrigin::default(),
            baseline_elapsed_ns: 20,
            row_count: 1,
            rows: vec![DiffRow {
                vm: None,
                pid: None,
                vcpu: None,
                reason: Some("hlt".into()),
                key: None,
                key_name: None,
                state: DiffState::New,
                count: 3,
                baseline_count: 0,
                rate_per_s: RateChange {
                    before: 0.0,
                    now: 1.5,
                    change: -1.5,
                },
                total_ns_per_s: times,
                cost_ns_per_s: times,
                mean_ns: times,
                p99_ns: times,
            }],
            baseline_left_out: 0,
            baseline_incomplete: false,
            loss: Loss::default(),
        };
        let mut out = Vec::new();
        let origin = ReportOrigin::new(SelectedBy::default());
        write_exits_diff(&report, &origin, Some(5), true, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(",mean_ns_change,p99_ns_before,p99_ns_now,p99_ns_change"));
        assert_eq!(
            lines[1],
            ",,0,10,20,,,,hlt,,,new,0,3,0.000,1.500,-1.500,,5,-5,,5,-5,,5,-5,,5,-5"
        );
        assert_eq!(lines.len(), 2);
    }

    fn event(name: &str, count: u64) -> StatEvent {
        StatEvent {
            event: name.into(),
            count,
            rate_per_s: 2.5,
        }
    }

    #[test]
    fn stat_has_one_kind_of_row() {
        const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        let mut origin = ReportOrigin::new(SelectedBy::default());
        origin.header.host = Some("host1".into());
        origin.wall_offset_ns = Some(1_795_612_627_000_000_000);
        let mut report = StatReport {
            view: "stat",
            start_ns: 0,
            elapsed_ns: 2_000_000_000,
            events: vec![event("kvm:kvm_exit", 5), event("kvm:kvm_msr", 0)],
            vms: None,
            loss: Loss {
                lost: 1,
                ..Loss::default()
            },
        };
        let lines = |report: &StatReport, header, zeros| {
            let mut out = Vec::new();
            write_stat(report, &origin, Some(0), (header, zeros), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let period = "2026-11-25T13:17:07.000000000Z,host1,0,2000000000";
        assert_eq!(
            lines(&report, true, false),
            format!(
                "start,host,start_ns,elapsed_ns,vm,vm_uuid,pid,event,count,rate_per_s\n{period},,,,kvm:kvm_exit,5,2.500\n"
            )
        );
        assert_eq!(lines(&report, false, true).lines().count(), 2);
        let vm = |name: &str, vm_uuid| StatVm {
            host: None,
            elapsed_ns: None,
            vm: name.into(),
            vm_uuid,
            pid: 7,
            events: vec![event("kvm:kvm_exit", 5)],
        };
        // Two of the events were in no VM.
        report.events[0].count = 12;
        report.events[0].rate_per_s = 6.0;
        report.vms = Some(vec![vm("web", VmUuid::parse(UUID)), vm("db", None)]);
        assert_eq!(
            lines(&report, false, false),
            format!(
                "{period},web,{UUID},7,kvm:kvm_exit,5,2.500\n{period},db,,7,kvm:kvm_exit,5,2.500\n{period},,,,kvm:kvm_exit,2,1.000\n"
            )
        );
    }
}
