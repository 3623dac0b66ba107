//! What is written, and when: the same for the running kernel and for a recording.

use std::io::{self, Write};

use kvm_ebpf_common::SlowExit;

use super::super::{output::Format, timing::key_names};
use crate::{
    format::{csv, json, text, text::Look},
    model::{ExitReading, Kind, ThreadExits},
    probe::Pairing,
    view::{Baseline, DiffReport, ExitGroups, ExitsOptions, ExitsReport, Group, SlowRow, SortKey},
};

/// All exits at one moment.
pub(super) type Moment = (ExitGroups, ExitReading);

/// What numbers are called.
#[derive(Clone, Copy)]
pub(super) struct Called<'a> {
    pub(super) pairing: Option<&'a Pairing>,
    pub(super) vm: &'a dyn Fn(u32) -> String,
}

pub(super) struct Writer {
    pub(super) by: Vec<Group>,
    pub(super) options: ExitsOptions,
    /// What to compare with, what comes first then, and how many rows.
    pub(super) baseline: Option<(Baseline, Option<SortKey>, Option<usize>)>,
    pub(super) format: Format,
    pub(super) look: Look,
    pub(super) began: bool,
}

impl Writer {
    /// Groups what a source hands over; `kind` is what it counts, if not exits by their reason.
    pub(super) fn read<E>(
        &self,
        kind: Option<&Kind>,
        exits: impl FnOnce(&mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, E>,
    ) -> Result<Moment, E> {
        let mut groups = ExitGroups::new(&self.by, kind);
        let reading = exits(&mut |exits| groups.add(exits))?;
        groups.add_vcpus(&reading.vcpus);
        Ok((groups, reading))
    }

    /// Writes what came between two moments.
    pub(super) fn write(
        &mut self,
        (earlier, before): &Moment,
        (groups, reading): &Moment,
        called: Called<'_>,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitsReport> {
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
            &key_names(called.pairing),
            called.vm,
        );
        let first = !self.began;
        self.began = true;
        if self.format == Format::Text {
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
        Ok(report)
    }

    /// Writes a slow exit, if it is one for a reason asked for.
    pub(super) fn slow(
        &self,
        exit: &SlowExit,
        called: Called<'_>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let reasons = self.options.reasons.as_ref();
        let code = exit.span.key.code;
        if reasons.is_some_and(|it| !it.iter().any(|wanted| u64::from(*wanted) == code)) {
            return Ok(());
        }
        let row = SlowRow::of(exit, &key_names(called.pairing), called.vm);
        match self.format {
            Format::Json => json::line(&row, out),
            _ => text::slow_exit(&row, out),
        }
    }

    /// Says that what follows is the total.
    pub(super) fn total(&self, out: &mut impl Write) -> io::Result<()> {
        if self.format == Format::Text {
            writeln!(out, "\n  total")?;
        }
        Ok(())
    }
}
