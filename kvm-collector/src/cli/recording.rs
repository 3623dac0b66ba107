//! `-i`: reads a recording instead of the running kernel.

use std::path::{Path, PathBuf};

use clap::Args;

use super::selection::{EventArgs, ReasonArgs, TargetArgs};
use crate::{
    source::{PlaybackOptions, Recording, RecordingSummary},
    tracefs::Format,
};

/// Option for the source of events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct InputArgs {
    /// Read a recording of `kvm-collector record` or `perf record` instead of the running kernel; -
    /// is stdin
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["command", "own"])]
    pub(super) input: Option<PathBuf>,
}

/// An opened recording and the selected events.
pub(super) struct SelectedRecording {
    pub(super) recording: Recording,
    /// Formats of the selected events. The slot of an event is its index here.
    pub(super) formats: Vec<Format>,
    pub(super) options: PlaybackOptions,
}

impl SelectedRecording {
    /// Opens a recording. The kvm events in `needed` are read even if they are not selected.
    pub(super) fn open(
        path: &Path,
        events: &EventArgs,
        needed: &[&str],
        target: &TargetArgs,
        reasons: Option<&ReasonArgs>,
    ) -> anyhow::Result<Self> {
        let mut recording = Recording::open(path)?;
        let formats = events.select_from(recording.formats(), needed, path)?;
        recording.select_events(&formats);
        let mut selection = target.for_recording()?;
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

/// Warns if the recording is damaged, or if a selected VM, process or thread does not occur in it.
pub(super) fn report_end(
    ended: &RecordingSummary,
    target: &TargetArgs,
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
    target.check_all_seen(&ended.processes, path)
}
