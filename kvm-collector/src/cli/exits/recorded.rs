//! From a recording: its time goes from its first event to its last.

use std::{path::Path, process::ExitCode};

use super::{
    super::{
        common::Common,
        playback,
        timing::{self, Find},
    },
    args::ExitsArgs,
};
use crate::{
    session,
    source::{PlaybackOptions, Recording},
};

pub(super) fn run(args: &ExitsArgs, path: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::open(path)?;
    let pairing = |find: &Find<'_>| args.pairing(find);
    let (chosen, mut replay) = timing::of_recording(recording.formats(), path, pairing)?;
    recording.select_events(&chosen);
    replay.is_sampled = recording.is_sampled(&chosen);
    let reasons = args.reasons.codes(replay.timing.exit.as_ref())?;
    let mut writer = args.writer(reasons, &replay.timing, common)?;
    let options = PlaybackOptions {
        selection: args.target.selection()?,
        limits: args.ending.limits(args.interval),
        without_raw: false,
    };
    let shows_progress = !common.quiet && args.interval.is_none() && args.slow.is_none();
    let summary =
        session::exits::recorded(recording, replay, &options, shows_progress, &mut writer)?;
    playback::report_end(&summary, &args.target, path)?;
    let (_, loss) = writer.total.unwrap_or_default();
    Ok(args.output.exit_code(&loss))
}
