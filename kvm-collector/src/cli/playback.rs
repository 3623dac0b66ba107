//! `-i`: a recording instead of the running kernel.

use std::path::{Path, PathBuf};

use clap::Args;

use super::selection::{Events, Reasons, Target};
use crate::{
    source::{PlaybackOptions, Recording, RecordingSummary},
    tracefs::Format,
};

/// From where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct Input {
    /// From this recording of `kvm-collector record` or `perf record`, instead of the running kernel; - is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["command", "own"])]
    pub(super) input: Option<PathBuf>,
}

/// A recording, and what is asked of it.
pub(super) struct Playback {
    pub(super) recording: Recording,
    /// The events chosen, in the order of their slots.
    pub(super) formats: Vec<Format>,
    pub(super) options: PlaybackOptions,
}

impl Playback {
    /// Opens a recording; `needed` are events of kvm that are needed whether chosen or not.
    pub(super) fn open(
        path: &Path,
        events: &Events,
        needed: &[&str],
        target: &Target,
        reasons: Option<&Reasons>,
    ) -> anyhow::Result<Self> {
        let mut recording = Recording::open(path)?;
        let formats = events.among(recording.formats(), needed, path)?;
        recording.select_events(&formats);
        let mut selection = target.selection()?;
        if let Some(reasons) = reasons {
            let is_exit = |it: &&Format| it.is_event("kvm", "kvm_exit");
            selection.filter.reasons = reasons.codes(recording.formats().iter().find(is_exit))?;
        }
        Ok(Self {
            recording,
            formats,
            options: PlaybackOptions {
                selection,
                ..PlaybackOptions::default()
            },
        })
    }
}

/// Says what is wrong with the recording, and whether what was asked for was in it.
pub(super) fn report_end(
    ended: &RecordingSummary,
    target: &Target,
    path: &Path,
) -> anyhow::Result<()> {
    if let Some(defect) = &ended.defect {
        log::warn!(
            "{} is only part of a recording: {defect}; what comes before that is all there is",
            path.display()
        );
    }
    let single = ended.loss.damaged - u64::from(ended.defect.is_some());
    if single > 0 {
        log::warn!(
            "{}: {single} records cannot be decoded and are left out",
            path.display()
        );
    }
    target.check_seen(&ended.processes, path)
}
