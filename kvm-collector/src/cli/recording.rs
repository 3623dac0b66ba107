//! `-i`: reads a recording instead of the running kernel.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    inputs::Inputs,
    selection::{EventArgs, ReasonArgs, TargetArgs},
    time_range::RangeArgs,
};
use crate::{
    format::units::plural,
    model::StreamItem,
    recording::{ReadError, can_be_read_again},
    source::{PlaybackOptions, Recording, RecordingSummary},
    timing::UnmatchedSelectors,
    tracefs::Format,
};

/// The option for the source of events.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct InputArgs {
    /// Read a recording instead of the running kernel; - is stdin
    ///
    /// The file can come from `kvm-collector record` or `perf record`. `stat` and `exits` sum up several
    /// recordings: all in a directory, those that match a glob, or several files.
    #[arg(short, long = "input", value_name = "FILE", num_args = 1..,
          conflicts_with_all = ["command", "report_overhead", "no_wait"])]
    pub(super) input: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) range: RangeArgs,
}

impl InputArgs {
    /// Returns whether the running kernel is the source.
    pub(super) fn is_live(&self) -> bool {
        self.input.is_empty()
    }

    /// Finds the recordings.
    ///
    /// # Errors
    /// As [`Inputs::find`], and when a time range is given without a recording.
    pub(super) fn find(&self) -> anyhow::Result<Inputs> {
        self.range.check_has_input(!self.is_live())?;
        Inputs::find(&self.input)
    }

    /// Finds the recording of a command that reads only one.
    ///
    /// # Errors
    /// As [`Inputs::find_one`], and when a time range is given without a recording.
    pub(super) fn find_one(&self, command: &str) -> anyhow::Result<Option<PathBuf>> {
        self.range.check_has_input(!self.is_live())?;
        Inputs::find_one(&self.input, command)
    }
}

/// An opened recording and the selected events.
pub(super) struct SelectedRecording {
    pub(super) recording: Recording,
    /// Formats of the selected events. The slot of an event is its index here.
    pub(super) formats: Vec<Format>,
    pub(super) options: PlaybackOptions,
}

impl SelectedRecording {
    /// Opens a recording. The events in `required` are read even if they are not selected.
    pub(super) fn open(
        path: &Path,
        events: &EventArgs,
        required: &[&str],
        target: &TargetArgs,
        reasons: Option<&ReasonArgs>,
    ) -> anyhow::Result<Self> {
        let mut recording = Recording::open(path)?;
        for event in recording.only_counted() {
            log::warn!(
                "{} has no events of {event}, because perf only counted them (as a member of a group with `:S`, or with --no-samples): record each event by itself",
                path.display()
            );
        }
        let formats = events.select_from(recording.formats(), required, path)?;
        recording.select_events(&formats);
        let mut selection = target.for_recording()?;
        if let Some(reasons) = reasons {
            let is_exit = |it: &&Format| it.is_event("kvm", "kvm_exit");
            let exit = recording.formats().iter().find(is_exit);
            selection.filter.reasons = reasons.codes(exit, recording.metadata().isa())?;
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

/// Why a recording is not read to its end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("all selected VMs have occurred")]
    AllSeen,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Checks that each selected VM and process occurs in a recording, before anything of it is printed. Reads the recording only until
/// that is known. A recording that cannot be read again is checked only at its end. `formats` are the selected events.
///
/// # Errors
/// When one does not occur, or the recording cannot be read.
pub(super) fn check_target_first(
    path: &Path,
    formats: &[Format],
    target: &TargetArgs,
    options: &PlaybackOptions,
) -> anyhow::Result<()> {
    let mut unmatched = UnmatchedSelectors::new(&options.selection);
    if unmatched.is_empty() || !can_be_read_again(path) {
        return Ok(());
    }
    let mut recording = Recording::open(path)?;
    recording.select_events(formats);
    let result = recording.play(options, |item, context| {
        let StreamItem::Event(event) = item else {
            return Ok(());
        };
        let tgid = event.subject.map_or(event.tgid, |it| it.tgid);
        match unmatched.add_event(tgid, |tgid| context.names.vm_name(tgid)) {
            true => Err(Stop::AllSeen),
            false => Ok(()),
        }
    });
    match result {
        // A range outside of the recording is another error.
        Ok(summary) if summary.outside.is_some() => Ok(()),
        Ok(summary) => target.check_all_seen(&summary.processes, path),
        Err(Stop::AllSeen) => Ok(()),
        Err(Stop::Read(error)) => Err(error.into()),
    }
}

/// Warns if the recording is damaged.
///
/// # Errors
/// When a selected VM or process does not occur in the recording.
pub(super) fn report_end(
    summary: &RecordingSummary,
    target: &TargetArgs,
    path: &Path,
) -> anyhow::Result<()> {
    warn_if_damaged(summary, path);
    target.check_all_seen(&summary.processes, path)
}

/// Warns if the recording is damaged.
pub(super) fn warn_if_damaged(summary: &RecordingSummary, path: &Path) {
    if let Some(defect) = &summary.defect {
        log::warn!(
            "{} is incomplete: {defect}; only the events before that are used",
            path.display()
        );
    }
    let skipped = summary.loss.damaged - u64::from(summary.defect.is_some());
    if skipped > 0 {
        log::warn!(
            "{}: skipped {} that cannot be decoded",
            path.display(),
            plural(skipped, "record")
        );
    }
}
