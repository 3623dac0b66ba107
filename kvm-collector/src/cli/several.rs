//! Reads several recordings, one after the other, for a report on all of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    origin, recording::warn_if_damaged, selection::TargetArgs, time_range::RangeArgs,
    usage::bail_usage,
};
use crate::{
    source::{RecordedProcess, Recording, RecordingSummary},
    tracefs::{Format, ReasonNames},
    view::{ReportInput, ReportOrigin, SelectedBy},
};

/// What is known about a recording before its events are read.
#[derive(Debug)]
pub(super) struct RecordingFile {
    pub(super) path: PathBuf,
    origin: ReportOrigin,
}

/// Refuses intervals, and times that differ by host.
///
/// # Errors
/// When one of these is given.
pub(super) fn check_options(interval: Option<Duration>, range: &RangeArgs) -> anyhow::Result<()> {
    if interval.is_some() {
        bail_usage!(
            "-I cannot be used with several recordings: each starts at another time, so their intervals cannot be added. Read them one by one, or use --from and --until"
        );
    }
    range.check_for_several()
}

/// Several recordings, and what has been read of them.
#[derive(Debug)]
pub(super) struct SeveralRecordings {
    files: Vec<RecordingFile>,
    /// The different formats of `kvm_exit`.
    exit_formats: Vec<Format>,
    inputs: Vec<ReportInput>,
    /// The start and the end of each recording with events, in ns. The index is that in `inputs`.
    times_ns: Vec<Option<InputTimes>>,
    processes: BTreeSet<RecordedProcess>,
}

/// The start and the end of what was read of a recording, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputTimes {
    /// Since the epoch.
    Dates(u64, u64),
    /// Of the clock of the events: the recording does not contain the date.
    OfClock,
}

impl InputTimes {
    fn dates(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Dates(start_ns, end_ns) => Some((start_ns, end_ns)),
            Self::OfClock => None,
        }
    }
}

impl RecordingFile {
    /// Returns the name of the host. A recording without one is on a host of its own, named after the
    /// file.
    pub(super) fn host(&self) -> String {
        let path = || self.path.display().to_string();
        self.origin.host.clone().unwrap_or_else(path)
    }
}

impl SeveralRecordings {
    /// Reads the metadata of all recordings.
    ///
    /// # Errors
    /// When a file cannot be read, or the recordings are of different architectures.
    pub(super) fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut files: Vec<RecordingFile> = Vec::new();
        let mut exit_formats: Vec<Format> = Vec::new();
        let names = |format: &Format| ReasonNames::new(Some(format)).all();
        for path in paths {
            let recording = Recording::open(path)?;
            files.push(RecordingFile {
                path: path.clone(),
                origin: origin::of_recording(path, &recording, SelectedBy::default()),
            });
            let is_exit = |it: &&Format| it.is_event("kvm", "kvm_exit");
            let Some(exit) = recording.formats().iter().find(is_exit) else {
                continue;
            };
            let is_x86 = |format: &Format| ReasonNames::new(Some(format)).is_x86();
            if exit_formats
                .first()
                .is_some_and(|it| is_x86(it) != is_x86(exit))
            {
                bail_usage!(
                    "{} is from another architecture than the recordings before it, which has other exit reasons: read the recordings of each architecture separately",
                    path.display()
                );
            }
            if !exit_formats.iter().any(|it| names(it) == names(exit)) {
                exit_formats.push(exit.clone());
            }
        }
        Ok(Self {
            files,
            exit_formats,
            inputs: Vec::new(),
            times_ns: Vec::new(),
            processes: BTreeSet::new(),
        })
    }

    /// Returns the recordings.
    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns a recording.
    pub(super) fn file(&self, index: usize) -> &RecordingFile {
        &self.files[index]
    }

    /// Returns the different formats of `kvm_exit`, all of one architecture.
    pub(super) fn exit_formats(&self) -> &[Format] {
        &self.exit_formats
    }

    /// Returns whether the recordings are of more than one host.
    pub(super) fn has_several_hosts(&self) -> bool {
        let hosts: BTreeSet<_> = self.files.iter().map(RecordingFile::host).collect();
        hosts.len() > 1
    }

    /// Adds what has been read of a recording. Returns false if it is left out, because it has no
    /// selected events in the requested range.
    pub(super) fn add_summary(
        &mut self,
        index: usize,
        summary: &RecordingSummary,
        range: &RangeArgs,
    ) -> bool {
        let file = &self.files[index];
        warn_if_damaged(summary, &file.path);
        self.processes.extend(summary.processes.iter().cloned());
        let wall_offset_ns = file.origin.wall_offset_ns;
        if let Err(outside) = range.check(summary, wall_offset_ns, &file.path) {
            log::warn!("{}: left out: {outside}", file.path.display());
            return false;
        }
        let input = ReportInput::new(&file.origin, summary.period_ns);
        self.inputs.push(input);
        let input_times = |(start_ns, end_ns): (u64, u64)| match wall_offset_ns {
            Some(offset_ns) => InputTimes::Dates(
                start_ns.wrapping_add(offset_ns),
                end_ns.wrapping_add(offset_ns),
            ),
            None => InputTimes::OfClock,
        };
        self.times_ns.push(summary.period_ns.map(input_times));
        true
    }

    /// Describes the report on all recordings. Returns also its start and end, from the earliest to the
    /// latest, in ns since the epoch. If a recording does not contain the date, they only have the sum of
    /// the durations. `None` if no recording has events.
    ///
    /// # Errors
    /// When no recording has events in the requested range, or a selected VM or process occurs in none.
    pub(super) fn finish(
        self,
        target: &TargetArgs,
        range: &RangeArgs,
        selection: SelectedBy,
    ) -> anyhow::Result<(ReportOrigin, Option<(u64, u64)>)> {
        if self.inputs.is_empty() {
            bail_usage!("{range} is outside of all {} recordings", self.files.len());
        }
        let processes: Vec<_> = self.processes.iter().cloned().collect();
        target.check_all_seen(&processes, Path::new("the recordings"))?;
        self.warn_of_overlaps();
        let common = |fact: fn(&ReportInput) -> &Option<String>| {
            let first = fact(self.inputs.first()?).clone();
            let is_common = self.inputs.iter().all(|it| *fact(it) == first);
            first.filter(|_| is_common)
        };
        // Recordings without events have no time.
        let times = self.times_ns.iter().flatten();
        let dates: Option<Vec<_>> = times.clone().map(InputTimes::dates).collect();
        let start_ns = dates.iter().flatten().map(|it| it.0).min();
        let end_ns = dates.iter().flatten().map(|it| it.1).max();
        let elapsed = self.inputs.iter().map(|it| it.elapsed_ns);
        let without_dates_ns = (0, elapsed.fold(0, u64::saturating_add));
        let has_events = times.count() > 0;
        let times_ns = has_events.then(|| start_ns.zip(end_ns).unwrap_or(without_dates_ns));
        let origin = ReportOrigin {
            host: common(|it| &it.host),
            kernel: common(|it| &it.kernel),
            wall_offset_ns: dates.is_some().then_some(0),
            vcpus_from_thread_names: self
                .files
                .iter()
                .any(|it| it.origin.vcpus_from_thread_names),
            inputs: self.inputs,
            ..ReportOrigin::new(selection)
        };
        Ok((origin, times_ns))
    }

    /// Warns about recordings of one host at the same time: they may contain the same events.
    fn warn_of_overlaps(&self) {
        let mut all: Vec<_> = self
            .inputs
            .iter()
            .zip(&self.times_ns)
            .filter_map(|(input, times)| {
                Some((input.host.as_ref()?, times.as_ref()?.dates()?, &input.path))
            })
            .collect();
        all.sort();
        // The recording with the latest end so far: its host, end and path.
        let mut latest: Option<(&String, u64, &String)> = None;
        for (host, (start_ns, end_ns), path) in all {
            let of_host = latest.filter(|it| it.0 == host);
            if let Some((_, _, other)) = of_host.filter(|it| start_ns < it.1) {
                log::warn!(
                    "{other} and {path} are of the host {host} at the same time: events that are in both are counted twice"
                );
            }
            if of_host.is_none_or(|it| it.1 < end_ns) {
                latest = Some((host, end_ns, path));
            }
        }
    }
}
