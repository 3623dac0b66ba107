//! `kvm-collector trace`.

mod args;
mod summary;

use std::{path::Path, process::ExitCode};

pub(super) use args::TraceArgs;

use super::{
    event_stream::stream_options,
    global::GlobalOptions,
    named_output::{Appears, check_outputs, complete, open_output},
    no_match::RecordingSelection,
    origin,
    recording::{self, SelectedRecording},
    sandbox::{self, RecordingFiles},
    tracefs::{find_kvm_format, open_tracefs_with_kvm},
    usage::bail_usage,
};
use crate::{
    host::{self, clock},
    session,
    source::{Live, LiveOptions, PlaybackOptions},
    timing::Selection,
    tracefs::{Format, Tracefs},
};

pub(in crate::cli) async fn run(
    args: TraceArgs,
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    args.check_options()?;
    if let Some(path) = args.input.find_one("trace")? {
        return run_recorded(&args, &path, global);
    }
    let tracefs = open_tracefs_with_kvm(args.target.no_wait)?;
    let mut selection = args.target.for_running_kernel()?;
    let exit = find_kvm_format(&tracefs, "kvm_exit")?;
    selection.filter.reasons = args.reasons.codes(exit.as_ref(), host::kvm::isa())?;
    let events = args.live_events(&tracefs)?;
    let offset_ns = || Ok(clock::real_offset_ns());
    let conditions = args.stop.conditions();
    let entry = find_kvm_format(&tracefs, "kvm_entry")?;
    let formats = exit.iter().chain(&entry);
    let origin = origin::of_host(args.selected_by(), conditions.command_line(), formats);
    let vcpus_from_thread_names = origin.vcpus_from_thread_names;
    let printer = args.printer(&events, global, false, origin, offset_ns)?;
    let out = open_output(args.output.as_deref(), Appears::AtFirstFlush)?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        logs_programs: global.ebpf_log,
        ..args.live_options(&tracefs, events, selection)?
    })?;
    let mut schedule = conditions.start(None)?;
    let outputs = args.output.iter().cloned().collect();
    sandbox::enter_to_measure(&mut live, outputs, conditions.has_command(), global);
    let (summary, out) =
        session::trace::live(&mut live, &mut schedule, printer, out, args.buffer).await?;
    complete(vec![out])?;
    if !global.quiet {
        summary::print(&args, &summary, vcpus_from_thread_names);
    }
    summary::warn_if_empty(&args, &summary, None);
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.exit_code(&summary.loss)
    })
}

impl TraceArgs {
    /// Returns the recordings and the output.
    pub(in crate::cli) fn files(&self) -> RecordingFiles {
        RecordingFiles {
            inputs: self.input.input.clone(),
            outputs: self.output.iter().cloned().collect(),
        }
    }

    /// Returns the formats of the selected events and of those that other options need.
    pub(in crate::cli) fn live_events(&self, tracefs: &Tracefs) -> anyhow::Result<Vec<Format>> {
        self.events.formats_with(tracefs, self.required_events())
    }

    /// Returns what is requested from the running kernel.
    pub(in crate::cli) fn live_options(
        &self,
        tracefs: &Tracefs,
        events: Vec<Format>,
        selection: Selection,
    ) -> anyhow::Result<LiveOptions> {
        stream_options(tracefs, events, selection, self.ring)
    }
}

/// Runs the command on a recording.
fn run_recorded(args: &TraceArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let selected = SelectedRecording::open(
        path,
        &args.events,
        args.required_events(),
        &args.target,
        Some(&args.reasons),
    )?;
    let clocks = selected.recording.metadata().wall_and_event_ns();
    let offset_ns = || -> anyhow::Result<u64> {
        let Some((wall_ns, event_ns)) = clocks else {
            bail_usage!(
                "--time wall: {} does not contain the wall-clock time; recordings of `kvm-collector record` and `perf record -k mono` do",
                path.display()
            );
        };
        Ok(wall_ns.saturating_sub(event_ns))
    };
    let formats = &selected.formats;
    let is_sampled = selected.recording.is_sampled(formats);
    let metadata = selected.recording.metadata();
    let origin = origin::of_recording(path, &selected.recording, args.selected_by());
    let vcpus_from_thread_names = origin.vcpus_from_thread_names;
    let mut printer = args.printer(formats, global, is_sampled, origin, offset_ns)?;
    check_outputs(&[path.to_owned()], args.output.as_deref(), None)?;
    let mut out = open_output(args.output.as_deref(), Appears::AtEnd)?;
    let (limits, range) = (args.stop.limits(None), &args.input.range);
    let wall_offset_ns = metadata.wall_offset_ns();
    let options = PlaybackOptions {
        limits: range.apply(limits, metadata, path)?,
        ..selected.options.clone()
    };
    recording::check_target_first(path, formats, &args.target, &options)?;
    let shows_progress = !global.quiet && args.output.is_some();
    let summary = session::trace::recorded(
        selected.recording,
        &options,
        shows_progress,
        &mut printer,
        &mut out,
        |recording| {
            range.check(recording, wall_offset_ns, path)?;
            recording::report_end(recording, &args.target, path)
        },
    )?;
    complete(vec![out])?;
    if !global.quiet {
        summary::print(args, &summary, vcpus_from_thread_names);
    }
    let codes = selected.options.selection.filter.reasons.as_deref();
    let selection = RecordingSelection {
        path,
        codes,
        formats,
        is_part: options.limits.is_part(),
    };
    summary::warn_if_empty(args, &summary, Some(selection));
    Ok(args.exit_code(&summary.loss))
}
