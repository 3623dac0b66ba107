//! `exits` of a recording. The measured time is from its first to its last event.

use std::{path::Path, process::ExitCode};

use super::{
    super::{
        global::GlobalOptions,
        origin, recording,
        timing::{self, FindFormat},
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
    let request = |find: &FindFormat<'_>| args.timing_request(find);
    let (selected, mut replay) = timing::replay_options(recording.formats(), path, request)?;
    recording.select_events(&selected);
    replay.is_sampled = recording.is_sampled(&selected);
    let isa = recording.metadata().isa();
    let reasons = args.reasons.codes(replay.timing.exit.as_ref(), isa)?;
    let origin = origin::of_recording(path, recording.metadata(), args.selected_by());
    let mut writer = args.writer(reasons, &replay.timing, origin, global)?;
    let options = PlaybackOptions {
        selection: args.target.for_recording()?,
        limits: args.stop.limits(args.interval),
        without_raw: false,
    };
    let shows_progress = !global.quiet && args.interval.is_none() && args.slow.is_none();
    let check = |summary: &RecordingSummary| recording::report_end(summary, &args.target, path);
    session::exits::recorded(
        recording,
        replay,
        &options,
        shows_progress,
        &mut writer,
        check,
    )?;
    let (_, loss) = writer.total.unwrap_or_default();
    Ok(args.output.exit_code(&loss))
}
