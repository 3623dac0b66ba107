//! `exits` of several recordings: their sum.

use std::{cell::Cell, path::PathBuf, process::ExitCode};

use kvm_ebpf_common::SlowExit;

use super::{
    super::{
        event_formats::EventFormats,
        global::GlobalOptions,
        no_match::{self, RecordingSelection},
        several::{self, SeveralRecordings},
        timing,
        usage::bail_usage,
    },
    args::ExitsArgs,
};
use crate::{
    model::Loss,
    session::{
        self, ReportPeriod,
        exits::{ExitsOutput, ReportContext, Snapshot},
    },
    source::{PlaybackOptions, Recording, RecordingSummary},
    timing::TimingRequest,
    tracefs::{Format, ReasonNames},
    view::{ExitsReport, GroupBy, KeyNames, MergedExits, RecordedHost, RowLabels},
};

pub(super) fn run(
    args: &ExitsArgs,
    paths: &[PathBuf],
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    check_options(args)?;
    let range = &args.input.range;
    let out = args.output.open(paths, false)?;
    let mut recordings = SeveralRecordings::open(paths)?;
    // A process id identifies a VM only on its host.
    let is_by_vm = args.group_by().contains(&GroupBy::Vm);
    let is_by_host = args.is_by_host() || is_by_vm && recordings.has_several_hosts();
    if is_by_host {
        args.check_without_baseline()?;
    }
    let patterns = args.reasons.patterns();
    let exit_formats = recordings.exit_formats().to_vec();
    let reason_names = ReasonNames::of_several(&exit_formats);
    let mut sum = Sum::new(args, is_by_host);
    let mut without_exits = 0;
    // The codes of the selected reasons in each recording, and whether a part of its time is selected.
    let mut selected_codes = Vec::new();
    for index in 0..recordings.files() {
        let file = recordings.file(index);
        let (path, host) = (file.path.clone(), file.host());
        let mut recording = Recording::open(&path)?;
        if let Err(error) = timing::check_has_exits(recording.formats(), &path) {
            without_exits += 1;
            if without_exits == recordings.files() {
                return Err(error);
            }
            log::warn!("skipped: {error}");
            continue;
        }
        let request = |formats: &EventFormats<'_>| args.timing_request(formats);
        let (selected, mut replay) = timing::replay_options(recording.formats(), &path, request)?;
        recording.select_events(&selected);
        replay.is_sampled = recording.is_sampled(&selected);
        replay.timing.host_isa = recording.metadata().isa();
        if !patterns.is_empty() {
            let isa = replay.timing.host_isa;
            sum.reasons = Some(reason_names.matching_codes(&patterns, isa)?);
        }
        let options = PlaybackOptions {
            selection: args.target.for_recording()?,
            limits: range.apply(args.stop.limits(None), recording.metadata(), &path)?,
            without_raw: false,
        };
        selected_codes.push((path, sum.reasons.clone(), options.limits.is_part()));
        let is_left_out = Cell::new(false);
        let mut output = AddToSum {
            host: &host,
            is_left_out: &is_left_out,
            sum: &mut sum,
        };
        let check = |summary: &RecordingSummary| {
            is_left_out.set(!recordings.add_summary(index, summary, range));
            Ok(())
        };
        let result = session::exits::recorded(
            recording,
            replay,
            &options,
            !global.quiet,
            &mut output,
            check,
        );
        if let Err(error) = result {
            recordings.leave_out(error)?;
        }
    }
    let read = recordings.finish(&args.target, range, args.selected_by())?;
    sum.warn_if_partly_preempt_watched();
    let Sum {
        mut merged,
        timing,
        switch,
        loss,
        ..
    } = sum;
    merged.set_times(&read.times_of_hosts);
    let timing = TimingRequest {
        switch,
        ..timing.unwrap_or_default()
    };
    let mut writer = args.writer(None, &timing, read.origin.clone(), global, out)?;
    let mut names = KeyNames::new(&timing);
    names.reasons = reason_names.with_host_isa(timing.host_isa);
    let report = ExitsReport::with_labels(
        merged.groups(),
        (0, read.times_of_hosts.of_all_hosts()),
        loss,
        &writer.options,
        &names,
        RowLabels::Merged(&merged),
    );
    writer.write(&report, ReportPeriod::Total, read.times_ns)?;
    if writer.rows == 0 {
        let request = args.no_match_request(&timing);
        let selections = selected_codes.iter();
        let selections = selections.map(|(path, codes, is_part)| RecordingSelection {
            path,
            codes: codes.as_deref(),
            formats: &[],
            is_part: *is_part,
        });
        let selections: Vec<_> = selections.collect();
        log::warn!("{}", no_match::explain_several(&request, &selections, &[]));
    }
    let code = args
        .output
        .finish(writer.out, &writer.total, &writer.origin)?;
    Ok(read.exit_code(code))
}

/// Refuses options that make no sense for several recordings.
fn check_options(args: &ExitsArgs) -> anyhow::Result<()> {
    if args.slow.is_some() {
        bail_usage!(
            "--slow cannot be used with several recordings: the order of their exits is unknown. Read them one by one"
        );
    }
    several::check_options(args.interval, &args.input.range)
}

/// The sum of the recordings read so far.
struct Sum {
    group_by: Vec<GroupBy>,
    /// Codes of the selected exit reasons in the recording that is read; `None` for all.
    reasons: Option<Vec<u32>>,
    merged: MergedExits,
    /// The request of the first recording, with the kinds of causes of all, and the parts of the time that all measure.
    timing: Option<TimingRequest>,
    /// The format of `sched_switch` in a recording that has it.
    switch: Option<Format>,
    /// Number of recordings without `sched_switch`.
    without_switch: usize,
    loss: Loss,
    is_by_host: bool,
}

impl Sum {
    fn new(args: &ExitsArgs, is_by_host: bool) -> Self {
        Self {
            group_by: args.group_by(),
            reasons: None,
            merged: MergedExits::default(),
            timing: None,
            switch: None,
            without_switch: 0,
            loss: Loss::default(),
            is_by_host,
        }
    }

    /// Warns if preempted time was measured for some recordings only.
    fn warn_if_partly_preempt_watched(&self) {
        if self.switch.is_some() && self.without_switch > 0 {
            log::warn!(
                "recordings without sched:sched_switch: {}; their preempted time is in the other parts of the time",
                self.without_switch
            );
        }
    }

    /// Returns the number of each of a recording's kinds of causes in `timing`. Adds new kinds to it.
    fn cause_kinds(&mut self, request: &TimingRequest) -> Vec<u32> {
        let timing = self.timing.get_or_insert_with(|| request.clone());
        if timing.host_isa != request.host_isa {
            timing.host_isa = None;
        }
        // A part of the time is that of all recordings, or is said not to be measured.
        timing
            .userspace_exit
            .take_if(|_| request.userspace_exit.is_none());
        timing.wakeup.take_if(|_| request.wakeup.is_none());
        let kinds = request.cause_events.iter().map(|cause| {
            let known = timing.cause_events.iter();
            let index = known.clone().position(|it| it.kind == cause.kind);
            let index = index.unwrap_or_else(|| {
                timing.cause_events.push(cause.clone());
                timing.cause_events.len() - 1
            });
            // The number of a kind is its index plus 1.
            u32::try_from(index + 1).unwrap_or_default()
        });
        kinds.collect()
    }
}

/// Adds the exits of a recording to the sum.
struct AddToSum<'a> {
    host: &'a RecordedHost,
    is_left_out: &'a Cell<bool>,
    sum: &'a mut Sum,
}

impl ExitsOutput for AddToSum<'_> {
    fn grouping(&self) -> &[GroupBy] {
        &self.sum.group_by
    }

    fn reasons(&self) -> Option<&[u32]> {
        self.sum.reasons.as_deref()
    }

    fn write_report(
        &mut self,
        _: ReportPeriod,
        _: &Snapshot,
        (groups, reading): &Snapshot,
        context: ReportContext<'_>,
    ) -> anyhow::Result<()> {
        let sum = &mut *self.sum;
        if sum.timing.is_none() {
            let counted = context.timing.counted_event.as_ref();
            let kind = counted.map(|it| &it.kind);
            sum.merged = MergedExits::new(&sum.group_by, kind, sum.is_by_host);
        }
        let kinds = sum.cause_kinds(context.timing);
        if self.is_left_out.get() {
            return Ok(());
        }
        match &context.timing.switch {
            Some(format) => sum.switch = Some(format.clone()),
            None => sum.without_switch += 1,
        }
        let cause_kind = |kind: u32| {
            let index = (kind as usize).checked_sub(1);
            // The guest's instruction pointer has the same number in all recordings.
            index.and_then(|it| kinds.get(it)).copied().unwrap_or(kind)
        };
        let merged = &mut sum.merged;
        let has_preempted = context.timing.switch.is_some();
        merged.add(
            self.host,
            has_preempted,
            groups,
            context.vm_name,
            cause_kind,
        )?;
        sum.loss = sum.loss.plus(&reading.loss);
        Ok(())
    }

    fn write_slow_exit(&mut self, _: &SlowExit, _: ReportContext<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::EventKind, timing::DetailEvent};

    const MSR: &str = include_str!("../../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_msr");

    fn request(kinds: &[&str]) -> TimingRequest {
        let cause_events = kinds.iter().map(|kind| DetailEvent {
            kind: EventKind::from_name(kind).unwrap(),
            format: Format::parse("kvm", MSR).unwrap(),
        });
        TimingRequest {
            cause_events: cause_events.collect(),
            ..TimingRequest::default()
        }
    }

    #[test]
    fn kinds_of_causes_have_one_number_in_all_recordings() {
        let mut sum = Sum {
            group_by: Vec::new(),
            reasons: None,
            merged: MergedExits::default(),
            timing: None,
            switch: None,
            without_switch: 0,
            loss: Loss::default(),
            is_by_host: false,
        };
        assert_eq!(sum.cause_kinds(&request(&["msr", "pio"])), [1, 2]);
        assert_eq!(sum.cause_kinds(&request(&["pio", "cpuid"])), [2, 3]);
        assert_eq!(sum.cause_kinds(&request(&["cpuid", "msr"])), [3, 1]);
        assert_eq!(sum.timing.unwrap().cause_events.len(), 3);
    }
}
