//! Writes the reports of `exits`, for the running kernel and for recordings.

use std::{cell::RefCell, io::Write, time::Duration};

use kvm_ebpf_common::SlowExit;

use super::super::{output::OutputFormat, stop::saturating_ns, text_heading::TextHeading};
use crate::{
    format::{csv, json, text, text::TextStyle},
    model::{ExitReading, VMEXIT},
    session::{
        ReportPeriod,
        exits::{ExitsOutput, ReportContext, Snapshot},
    },
    source::IdleVms,
    view::{
        Baseline, DiffReport, ExitsOptions, ExitsReport, GroupBy, KeyNames, LossReport,
        ReportOrigin, RowLabels, SlowExitRow, SortKey,
    },
};

pub(super) struct Writer<W> {
    pub(super) group_by: Vec<GroupBy>,
    pub(super) is_by_host: bool,
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
    pub(super) heading: TextHeading,
    /// Columns of the table that were requested.
    pub(super) columns: Vec<String>,
    pub(super) slow_limit: Option<Duration>,
    /// Whether the latest lines are slow exits.
    pub(super) in_slow_section: bool,
    /// Whether a slow exit was written.
    pub(super) has_slow_exits: bool,
    pub(super) out: W,
    /// Number of rows of the total.
    pub(super) rows: usize,
    /// Names and numbers of exit reasons that occurred but are not selected.
    pub(super) unselected: Vec<(String, u64)>,
    /// Losses of the total.
    pub(super) total: LossReport,
}

impl<W: Write> Writer<W> {
    /// Writes a report. Its start and end are those of the clock of the events; `None` for a recording without events.
    pub(super) fn write(
        &mut self,
        report: &ExitsReport,
        period: ReportPeriod,
        times_ns: Option<(u64, u64)>,
    ) -> anyhow::Result<()> {
        if period == ReportPeriod::Total {
            self.rows = report.row_count;
            self.total = LossReport::new(times_ns, report.loss);
        }
        // Only one kind of row can be in a table of CSV, and the intervals add up to the total.
        if self.format == OutputFormat::Csv && self.has_intervals && period == ReportPeriod::Total {
            return Ok(self.out.flush()?);
        }
        let first = !std::mem::replace(&mut self.header_written, true);
        let start_ns = times_ns.map(|it| it.0);
        if self.format == OutputFormat::Text {
            self.in_slow_section = false;
            if period == ReportPeriod::Total {
                self.write_no_slow_exit(report)?;
            }
            let out = &mut self.out;
            self.heading
                .begin_report(&self.origin, period, times_ns, out)?;
        }
        let out = &mut self.out;
        if let Some((baseline, sort, top)) = &self.baseline {
            let diff = DiffReport::compare(report, baseline, *sort, *top);
            match self.format {
                OutputFormat::Json => {
                    json::write_report(&diff, &self.origin, period.name(), times_ns, out)?
                }
                OutputFormat::Csv => {
                    csv::write_exits_diff(&diff, &self.origin, start_ns, first, out)?
                }
                OutputFormat::Text => text::write_exits_diff(&diff, self.style, out)?,
            }
        } else {
            match self.format {
                OutputFormat::Json => {
                    json::write_report(report, &self.origin, period.name(), times_ns, out)?
                }
                OutputFormat::Csv => {
                    let percentiles = &self.options.percentiles;
                    csv::write_exits(report, &self.origin, start_ns, percentiles, first, out)?
                }
                OutputFormat::Text => text::write_exits(report, &self.columns, self.style, out)?,
            }
        }
        out.flush()?;
        Ok(())
    }
}

impl<W: Write> Writer<W> {
    /// Writes that no exit was slow, if none was. Slow exits may be among lost events.
    fn write_no_slow_exit(&mut self, report: &ExitsReport) -> anyhow::Result<()> {
        let Some(limit) = self.slow_limit else {
            return Ok(());
        };
        if self.has_slow_exits || report.count == 0 || report.loss.lost > 0 {
            return Ok(());
        }
        self.heading.begin_section(&self.origin, &mut self.out)?;
        text::write_no_slow_exit(report, saturating_ns(limit), self.style, &mut self.out)?;
        Ok(())
    }
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
        let host = self.origin.recorded_host();
        let labels = RowLabels::OneHost {
            host: self.is_by_host.then_some(&host),
            vm_name: context.vm_name,
        };
        let mut report = ExitsReport::with_labels(
            groups,
            (earlier_reading.time_ns, reading.time_ns),
            reading.loss.since(&earlier_reading.loss),
            &self.options,
            &KeyNames::new(context.timing),
            labels,
        );
        let read = |idle: &RefCell<IdleVms>| {
            let mut idle = idle.try_borrow_mut().ok()?;
            idle.read(context.processes, &|pid| report.has_exits_of(pid))
        };
        report.vms_without_exits = context.idle_vms.and_then(read);
        let times_ns = context.start_ns.map(|start_ns| {
            let at = |reading: &ExitReading| start_ns + reading.time_ns;
            (at(earlier_reading), at(reading))
        });
        if period == ReportPeriod::Total {
            let names = KeyNames::new(context.timing);
            let unselected = groups.unselected();
            self.unselected = unselected
                .map(|(key, count)| (names.reason(key), count))
                .collect();
        }
        self.write(&report, period, times_ns)
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
        self.has_slow_exits = true;
        let row = SlowExitRow::from_record(exit, &KeyNames::new(context.timing), context.vm_name)
            .with_preempted(self.options.preempt_watched);
        match self.format {
            OutputFormat::Json => json::write_slow_exit(&row, &self.origin, &mut self.out)?,
            _ => {
                if !std::mem::replace(&mut self.in_slow_section, true) {
                    self.heading.begin_section(&self.origin, &mut self.out)?;
                    let limit = self.slow_limit.map_or(0, saturating_ns);
                    let counted = context.timing.counted_event.as_ref();
                    let kind = counted.map_or(VMEXIT, |it| &it.kind.name);
                    text::write_slow_exits_heading(limit, kind, self.style, &mut self.out)?;
                }
                text::write_slow_exit(&row, &self.origin, self.style, &mut self.out)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}
