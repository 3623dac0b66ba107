//! The `exits` report as text: the table of rows, then histograms, times of vCPUs, advice and totals.

use std::io::{self, Write};

use super::{
    advice::write_advice,
    exits_table::exits_table,
    histogram::write_histogram,
    idle_vms::write_idle_vms,
    loss::write_loss,
    style::TextStyle,
    vcpu_table::vcpu_table,
    wrap::{write_sentence, write_title},
};
use crate::{
    format::{
        row_names::counted_unit,
        units::{duration, plural},
    },
    model::VMEXIT,
    view::{ExitRow, ExitsReport},
};

/// Writes an `exits` report. `columns` are the requested ones; empty for the usual ones that fit into a line.
///
/// # Errors
/// When writing fails.
pub fn write_exits(
    report: &ExitsReport,
    columns: &[String],
    style: TextStyle,
    out: &mut impl Write,
) -> io::Result<()> {
    let unit = counted_unit(&report.kind);
    if report.rows.is_empty() {
        match report.kind.as_str() {
            VMEXIT => write_sentence("no VM exits", style, out)?,
            kind => write_sentence(&format!("no events of kind {kind}"), style, out)?,
        }
    } else {
        let (table, hidden) = exits_table(report, columns, style);
        table.write(style, out)?;
        if !hidden.is_empty() {
            let hidden = hidden.join(", ");
            let text = format!("(not shown in this width: {hidden}; --columns selects)");
            write_sentence(&text, style, out)?;
        }
    }
    let hidden = report.row_count - report.rows.len();
    if hidden > 0 {
        let rows = plural(hidden as u64, "more row");
        write_sentence(&format!("{rows} (hidden by --top)"), style, out)?;
    }
    for row in report
        .rows
        .iter()
        .filter(|row| row.histogram.as_ref().is_some_and(|it| !it.is_empty()))
    {
        write_histogram(row, unit, style, out)?;
    }
    let is_by_vcpu = |row: &ExitRow| row.vcpu.is_some() || row.tid.is_some();
    if report.rows.iter().any(is_by_vcpu) {
        writeln!(out)?;
        write_title("where the vCPUs' time went", style, out)?;
        vcpu_table(report, style).write(style, out)?;
    }
    if let Some(vms) = &report.vms_without_exits {
        write_idle_vms(vms, style, out)?;
    }
    write_advice(&report.rows, unit, style, out)?;
    writeln!(out)?;
    write_sentence(&describe_totals(report), style, out)?;
    if report.untimed > 0 {
        let text = format!(
            "{} without a duration: the exit or the next entry was not seen",
            plural(report.untimed, unit)
        );
        write_sentence(&text, style, out)?;
    }
    write_loss(&report.loss, (report.open, unit), style, out)
}

/// Describes the totals of all rows. The rows of `--kind` are events, to which the time of their exits is charged.
fn describe_totals(report: &ExitsReport) -> String {
    let number = plural(report.count, counted_unit(&report.kind));
    let (elapsed, time) = (duration(report.elapsed_ns), duration(report.total_ns));
    let start = match report.kind.as_str() {
        VMEXIT => format!("{number} in {elapsed}; {time} from exit to next entry"),
        kind => format!("{number} of kind {kind} in {elapsed}; {time} of the time of their exits"),
    };
    format!(
        "{start}: cost {}, idle {}{}",
        duration(report.total_ns.saturating_sub(report.idle_ns)),
        duration(report.idle_ns),
        idle_parts(report)
    )
}

/// Explains idle time that is not in the column `halted`: without an interrupt controller in the kernel, the guest's halts wait
/// in the VMM. Empty if there is none.
fn idle_parts(report: &ExitsReport) -> String {
    let halted_ns = report.halted_ns;
    if report.idle_ns <= halted_ns {
        return String::new();
    }
    format!(
        " (halted {}, waiting in the VMM because of a halt {})",
        duration(halted_ns),
        duration(report.idle_ns - halted_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Loss,
        view::{Advice, Bucket, CauseRow, Evidence, VcpuRow},
    };

    fn row(reason: &str, count: u64, total_ns: u64) -> ExitRow {
        ExitRow {
            host: None,
            elapsed_ns: None,
            vm: Some("web".into()),
            vm_uuid: Some(None),
            pid: Some(7),
            vcpu: Some(0),
            tid: None,
            reason: Some(reason.into()),
            reason_code: Some(0x78),
            isa: Some("svm"),
            key: None,
            key_name: None,
            code: None,
            class: None,
            count,
            open: 0,
            rates: None,
            untimed: 0,
            count_ratio: 0.5,
            total_ns,
            time_ratio: 0.25,
            cost_ratio: 0.125,
            idle_ns: 0,
            kernel_ns: total_ns,
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: Some(0),
            min_ns: 1,
            mean_ns: 1_500,
            max_ns: 2_000_000,
            p50_ns: 900,
            p99_ns: 1_900_000,
            percentiles: Vec::new(),
            histogram: Some(
                [(512, 564, 60), (564, 615, 40), (1024, 1127, 1)]
                    .map(|(from_ns, to_ns, count)| Bucket {
                        from_ns,
                        to_ns,
                        count,
                    })
                    .to_vec(),
            ),
            causes: vec![CauseRow {
                cause: "port 0x3f8 out".into(),
                cause_name: None,
                cause_code: 0x3f8,
                at_least: 90,
                at_most: 95,
                total_ns: 1000,
            }],
            other_causes_at_most: Some(5),
            advice: vec![Advice {
                topic: "halt",
                text: "wait",
            }],
            evidence: Some(Evidence {
                exits_per_vcpu_s: 2_345.2,
                vcpu_time_ratio: 0.041,
            }),
        }
    }

    fn report(loss: Loss) -> ExitsReport {
        ExitsReport {
            view: "exits",
            kind: "vmexit".into(),
            by: vec!["vm", "vcpu", "reason"],
            start_ns: 0,
            elapsed_ns: 2_000_000_000,
            count: 1234,
            total_ns: 5_000_000,
            idle_ns: 0,
            halted_ns: 0,
            max_ns: 2_000_000,
            untimed: 0,
            row_count: 3,
            rows: vec![
                row("hlt", 1000, 4_000_000),
                row("UNKNOWN(0x99)", 234, 1_000_000),
            ],
            vcpus: vec![VcpuRow {
                host: None,
                elapsed_ns: None,
                vm: "web".into(),
                vm_uuid: None,
                pid: 7,
                vcpu: Some(0),
                tid: None,
                count: 1234,
                guest_ns: 1_000_000_000,
                kernel_ns: 5_000_000,
                vmm_ns: 0,
                halted_ns: 0,
                preempted_ns: Some(0),
                open_ns: 3_000,
            }],
            vms_without_exits: None,
            preempt_watched: false,
            open: 1,
            loss,
        }
    }

    fn text(loss: Loss) -> String {
        let mut out = Vec::new();
        write_exits(&report(loss), &[], TextStyle::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn report_has_all_sections() {
        let text = text(Loss::default());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..9],
            [
                "  VM           vCPU  exit reason       count  count%      time   time%   cost%    kernel   VMM  halted   min      mean       max     p50     p99",
                "  web (pid 7)  0     hlt               1,000  50.00%  4.000 ms  25.00%  12.50%  4.000 ms  0 ns    0 ns  1 ns  1.500 us  2.000 ms  900 ns  1.9 ms",
                "                       port 0x3f8 out  90-95          1.000 us",
                "                       others, each      <=5",
                "  web (pid 7)  0     UNKNOWN(0x99)       234  50.00%  1.000 ms  25.00%  12.50%  1.000 ms  0 ns    0 ns  1 ns  1.500 us  2.000 ms  900 ns  1.9 ms",
                "                       port 0x3f8 out  90-95          1.000 us",
                "                       others, each      <=5",
                "  1 more row (hidden by --top)",
                "",
            ]
        );
        assert_eq!(
            lines[9],
            "  web (pid 7), vCPU 0, hlt: time from exit to next entry"
        );
        assert_eq!(
            lines[10],
            format!("      512 ns .. 564 ns     60  {}", "#".repeat(50))
        );
        assert_eq!(lines[12], "    1.024 us .. 1.127 us    1  #");
        assert!(
            text.contains(
                "  web (pid 7)  0     1,234  50.00%   0.25%  0.00%   0.00%     3.000 us\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("  advice (explained in docs/advice.md), with the mean exits/s and time share of the VM's vCPUs\n  halt: web (pid 7), hlt on vCPU 0 (2,345/s, 4.10%); web (pid 7), UNKNOWN(0x99) on vCPU 0 (2,345/s, 4.10%)\n      wait\n"),
            "{text}"
        );
        assert_eq!(
            lines.last(),
            Some(&"  1 exit in progress at the end: counted, without a duration")
        );
    }

    #[test]
    fn rows_without_durations_show_dashes() {
        let mut report = report(Loss::default());
        report.untimed = 6;
        report.rows = vec![ExitRow {
            open: 1,
            untimed: 6,
            ..row("io", 7, 0)
        }];
        let mut out = Vec::new();
        write_exits(&report, &[], TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().nth(1).unwrap();
        let cells: Vec<_> = line.split_whitespace().skip(6).collect();
        assert_eq!(cells[0], "50.00%");
        assert_eq!(cells[1..], ["-"; 11]);
        assert!(text.contains("6 exits without a duration"), "{text}");
    }

    #[test]
    fn preempted_time_is_a_dash_unless_measured() {
        let cell = |preempt_watched: bool| {
            let preempted_ns = preempt_watched.then_some(0);
            let report = ExitsReport {
                preempt_watched,
                rows: vec![ExitRow {
                    preempted_ns,
                    ..row("io", 7, 1_000)
                }],
                ..report(Loss::default())
            };
            let columns = ["preempted".to_owned()];
            let mut out = Vec::new();
            write_exits(&report, &columns, TextStyle::default(), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let line = text.lines().nth(1).unwrap();
            line.rsplit("  ").next().unwrap().trim().to_owned()
        };
        assert_eq!(cell(false), "-");
        assert_eq!(cell(true), "0 ns");
    }

    #[test]
    fn footers_count_hidden_rows_too() {
        let mut report = report(Loss::default());
        report.rows.truncate(1);
        (report.untimed, report.idle_ns, report.halted_ns) = (9, 4_000_000, 1_000_000);
        let mut out = Vec::new();
        write_exits(&report, &[], TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("  9 exits without a duration"), "{text}");
        assert!(
            text.contains("(halted 1.000 ms, waiting in the VMM because of a halt 3.000 ms)"),
            "{text}"
        );
    }

    #[test]
    fn rows_of_a_kind_are_called_events() {
        let mut report = report(Loss::default());
        (report.kind, report.untimed) = ("pio".into(), 2);
        let mut out = Vec::new();
        write_exits(&report, &[], TextStyle::default(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "1,234 events of kind pio in 2.000 s; 5.000 ms of the time of their exits: cost",
            "2 events without a duration",
            "1 event of exits in progress at the end",
            "with the mean events/s",
            "vCPU  events  ",
            "hlt: time of the exit that is charged to an event",
        ] {
            assert!(text.contains(line), "no `{line}` in {text}");
        }
    }

    #[test]
    fn sentences_fit_into_the_width() {
        let loss = Loss {
            lost: 1,
            unmatched: 2000,
            ..Loss::default()
        };
        let style = TextStyle {
            max_width: Some(60),
            ..TextStyle::default()
        };
        let mut out = Vec::new();
        write_exits(&report(loss), &[], style, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let is_sentence = |line: &&str| !line.contains("web (pid 7)  0") && !line.contains("##");
        for line in text.lines().filter(is_sentence) {
            assert!(line.chars().count() <= 60, "{line}");
        }
        assert!(text.contains("\n    "), "{text}");
    }

    #[test]
    fn every_loss_is_reported() {
        let loss = Loss {
            lost: 1,
            unmatched: 2000,
            moved: 7,
            map_full: 3,
            unattributed: 4,
            missed: Some(5),
            damaged: 6,
            late: 8,
            sampled: 9,
        };
        let text = text(loss);
        for line in [
            "incomplete: 1 event did not fit",
            "incomplete: 2,000 exits without a following entry",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.matches("incomplete: ").count(), 9, "{text}");
        assert!(!text.contains("no events were lost"), "{text}");
        let unknown = Loss {
            missed: None,
            ..Loss::default()
        };
        let text = self::text(unknown);
        assert!(text.contains("missed: not known"), "{text}");
        assert!(!text.contains("incomplete"), "{text}");
    }
}
