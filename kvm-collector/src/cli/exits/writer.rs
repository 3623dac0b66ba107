//! What is written, and when: the same for the running kernel and for a recording.

use std::io::Write;

use kvm_ebpf_common::SlowExit;

use super::super::output::Format;
use crate::{
    format::{csv, json, text, text::Look},
    model::Loss,
    session::{
        Span,
        exits::{ExitNames, ExitsOutput, Moment},
    },
    view::{Baseline, DiffReport, ExitsOptions, ExitsReport, Group, KeyNames, SlowRow, SortKey},
};

pub(super) struct Writer<W> {
    pub(super) by: Vec<Group>,
    pub(super) options: ExitsOptions,
    /// What to compare with, what comes first then, and how many rows.
    pub(super) baseline: Option<(Baseline, Option<SortKey>, Option<usize>)>,
    pub(super) format: Format,
    pub(super) look: Look,
    pub(super) began: bool,
    pub(super) has_intervals: bool,
    pub(super) out: W,
    /// How many rows the total had, and what was missing from it.
    pub(super) total: Option<(usize, Loss)>,
}

impl<W: Write> ExitsOutput for Writer<W> {
    fn by(&self) -> &[Group] {
        &self.by
    }

    fn report(
        &mut self,
        span: Span,
        (earlier, before): &Moment,
        (groups, reading): &Moment,
        names: ExitNames<'_>,
    ) -> anyhow::Result<()> {
        let since;
        let groups = if before.time_ns == 0 {
            groups
        } else {
            since = groups.since(earlier);
            &since
        };
        let report = ExitsReport::of(
            groups,
            (before.time_ns, reading.time_ns),
            reading.loss.since(&before.loss),
            &self.options,
            &KeyNames::of(names.pairing),
            names.vm,
        );
        let (first, out) = (!self.began, &mut self.out);
        self.began = true;
        if self.format == Format::Text {
            if span == Span::Total && self.has_intervals {
                writeln!(out, "\n  total")?;
            }
            writeln!(out)?;
        }
        if let Some((baseline, sort, top)) = &self.baseline {
            let diff = DiffReport::of(&report, baseline, *sort, *top);
            match self.format {
                Format::Json => json::line(&diff, out)?,
                Format::Csv => csv::exits_diff(&diff, first, out)?,
                Format::Text => text::exits_diff(&diff, self.look, out)?,
            }
        } else {
            match self.format {
                Format::Json => json::line(&report, out)?,
                Format::Csv => csv::exits(&report, first, out)?,
                Format::Text => text::exits(&report, self.look, out)?,
            }
        }
        out.flush()?;
        if span == Span::Total {
            self.total = Some((report.row_count, report.loss));
        }
        Ok(())
    }

    /// If it is one for a selected reason.
    fn slow(&mut self, exit: &SlowExit, names: ExitNames<'_>) -> anyhow::Result<()> {
        let reasons = self.options.reasons.as_ref();
        let code = exit.span.key.code;
        if reasons.is_some_and(|it| !it.iter().any(|wanted| u64::from(*wanted) == code)) {
            return Ok(());
        }
        let row = SlowRow::of(exit, &KeyNames::of(names.pairing), names.vm);
        match self.format {
            Format::Json => json::line(&row, &mut self.out)?,
            _ => text::slow_exit(&row, &mut self.out)?,
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.out.flush()?)
    }
}
