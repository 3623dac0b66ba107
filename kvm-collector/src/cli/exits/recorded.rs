//! `exits` of a recording. The measured time is from its first to its last event.

use std::{path::Path, process::ExitCode};

use super::{
    super::{
        event_formats::EventFormats,
        global::GlobalOptions,
        no_match::{self, RecordingSelection},
        origin, recording, timing,
    },
    args::ExitsArgs,
};
use crate::{
    session,
    source::{PlaybackOptions, Recording, RecordingSummary},
};

pub(super) fn run(
    args: &ExitsArgs,
    path: &Path,
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::open(path)?;
    let request = |formats: &EventFormats<'_>| args.timing_request(formats);
    let (selected, mut replay) = timing::replay_options(recording.formats(), path, request)?;
    recording.select_events(&selected);
    replay.is_sampled = recording.is_sampled(&selected);
    let isa = recording.metadata().isa();
    replay.timing.host_isa = isa;
    let reasons = args.reasons.codes(replay.timing.exit.as_ref(), isa)?;
    let origin = origin::of_recording(path, &recording, args.selected_by());
    let timing = replay.timing.clone();
    let out = args.output.open(&[path.to_owned()], false)?;
    let mut writer = args.writer(reasons, &timing, origin, global, out)?;
    let (limits, range) = (args.stop.limits(args.interval), &args.input.range);
    let limits = range.apply(limits, recording.metadata(), path)?;
    let wall_offset_ns = recording.metadata().wall_offset_ns();
    let options = PlaybackOptions {
        selection: args.target.for_recording()?,
        limits,
        without_raw: false,
    };
    let shows_progress = !global.quiet && args.interval.is_none() && args.slow.is_none();
    let check = |summary: &RecordingSummary| {
        range.check(summary, wall_offset_ns, path)?;
        recording::report_end(summary, &args.target, path)
    };
    session::exits::recorded(
        recording,
        replay,
        &options,
        shows_progress,
        &mut writer,
        check,
    )?;
    if writer.rows == 0 {
        let request = args.no_match_request(&timing);
        let selection = RecordingSelection {
            path,
            codes: writer.reasons.as_deref(),
            formats: &[],
            is_part: options.limits.is_part(),
        };
        let message = no_match::explain_recorded(&request, selection, &writer.unselected);
        log::warn!("{message}");
    }
    args.output
        .finish(writer.out, &writer.total, &writer.origin)
}
