//! Writes the reports of `exits`, for the running kernel and for recordings.

use std::io::Write;

use kvm_ebpf_common::SlowExit;

use super::super::output::OutputFormat;
use crate::{
    format::{csv, json, text, text::TextStyle},
    model::Loss,
    session::{
        ReportPeriod,
        exits::{ExitsOutput, ReportContext, Snapshot},
    },
    view::{
        Baseline, DiffReport, ExitsOptions, ExitsReport, GroupBy, KeyNames, ReportOrigin,
        SlowExitRow, SortKey,
    },
};

/// What is needed of the total after it is written.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) row_count: usize,
    pub(super) loss: Loss,
    /// Names and numbers of exit reasons that occurred but are not selected.
    pub(super) unselected: Vec<(String, u64)>,
}

pub(super) struct Writer<W> {
    pub(super) group_by: Vec<GroupBy>,
    /// Codes of the selected exit reasons; `None` for all.
    pub(super) reasons: Option<Vec<u32>>,
    pub(super) options: ExitsOptions,
    /// Earlier report, sort key and maximum number of rows of the comparison.
    pub(super) baseline: Option<(Baseline, Option<SortKey>, Option<usize>)>,
    pub(super) format: OutputFormat,
    pub(super) style: TextStyle,
    pub(super) header_written: bool,
    pub(super) has_intervals: bool,
    pub(super) origin: ReportOrigin,
    pub(super) out: W,
    /// What remains of the total after it is written.
    pub(super) total: Total,
}

impl<W: Write> ExitsOutput for Writer<W> {
    fn grouping(&self) -> &[GroupBy] {
        &self.group_by
    }

    fn reasons(&self) -> Option<&[u32]> {
        self.reasons.as_deref()
    }

    fn write_report(
        &mut self,
        period: ReportPeriod,
        (earlier_groups, earlier_reading): &Snapshot,
        (groups, reading): &Snapshot,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()> {
        let since;
        let groups = if earlier_reading.time_ns == 0 {
            groups
        } else {
            since = groups.since(earlier_groups);
            &since
        };
        let report = ExitsReport::from_groups(
            groups,
            (earlier_reading.time_ns, reading.time_ns),
            reading.loss.since(&earlier_reading.loss),
            &self.options,
            &KeyNames::new(context.timing),
            context.vm_name,
        );
        let times_ns = (
            context.start_ns + earlier_reading.time_ns,
            context.start_ns + reading.time_ns,
        );
        let (first, out) = (!self.header_written, &mut self.out);
        self.header_written = true;
        if self.format == OutputFormat::Text {
            if period == ReportPeriod::Total && self.has_intervals {
                writeln!(out, "\n  total")?;
            }
            writeln!(out)?;
        }
        if let Some((baseline, sort, top)) = &self.baseline {
            let diff = DiffReport::compare(&report, baseline, *sort, *top);
            match self.format {
                OutputFormat::Json => {
                    json::write_report(&diff, &self.origin, period.name(), times_ns, out)?
                }
                OutputFormat::Csv => csv::write_exits_diff(&diff, first, out)?,
                OutputFormat::Text => text::write_exits_diff(&diff, self.style, out)?,
            }
        } else {
            match self.format {
                OutputFormat::Json => {
                    json::write_report(&report, &self.origin, period.name(), times_ns, out)?
                }
                OutputFormat::Csv => csv::write_exits(&report, first, out)?,
                OutputFormat::Text => text::write_exits(&report, self.style, out)?,
            }
        }
        out.flush()?;
        if period == ReportPeriod::Total {
            let names = KeyNames::new(context.timing);
            let unselected = groups.unselected();
            self.total = Total {
                row_count: report.row_count,
                loss: report.loss,
                unselected: unselected
                    .map(|(key, count)| (names.reason(key), count))
                    .collect(),
            };
        }
        Ok(())
    }

    /// Writes a slow exit if its reason is selected.
    fn write_slow_exit(
        &mut self,
        exit: &SlowExit,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()> {
        let reasons = self.reasons.as_ref();
        let code = exit.span.key.code;
        if reasons.is_some_and(|it| !it.iter().any(|wanted| u64::from(*wanted) == code)) {
            return Ok(());
        }
        let row = SlowExitRow::from_record(exit, &KeyNames::new(context.timing), context.vm_name);
        match self.format {
            OutputFormat::Json => json::write_line(&row, &mut self.out)?,
            _ => text::write_slow_exit(&row, &mut self.out)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}
