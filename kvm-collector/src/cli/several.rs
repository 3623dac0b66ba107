//! Reads several recordings, one after the other, for a report on all of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{
    origin,
    recording::warn_if_damaged,
    selection::TargetArgs,
    time_range::RangeArgs,
    usage::{bail_usage, is_unsuitable_recording},
    warnings::Warnings,
};
use crate::{
    format::units::plural,
    recording::ReadError,
    source::{RecordedProcess, Recording, RecordingSummary},
    tracefs::{Format, ReasonNames},
    view::{
        OutputHeader, RecordedHost, RecordedTime, RecordedTimes, ReportInput, ReportOrigin,
        SelectedBy,
    },
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
    /// What each recording with events covers. The index is that in `inputs`.
    times: Vec<Option<RecordedTime>>,
    times_of_hosts: RecordedTimes,
    processes: BTreeSet<RecordedProcess>,
    /// Whether a file could not be read.
    has_failed: bool,
}

/// What a report on several recordings is about.
pub(super) struct SeveralRead {
    pub(super) origin: ReportOrigin,
    /// Start and end, from the earliest to the latest, in ns since the epoch. If a recording does not contain the date, they only
    /// have the recorded time of all hosts. `None` if no recording has events.
    pub(super) times_ns: Option<(u64, u64)>,
    /// How long each host was recorded.
    pub(super) times_of_hosts: RecordedTimes,
    has_failed: bool,
}

impl SeveralRead {
    /// Returns the exit code of a command whose report is complete but for files that could not be read. `code` is that of the
    /// report.
    pub(super) fn exit_code(&self, code: ExitCode) -> ExitCode {
        match self.has_failed {
            true => ExitCode::FAILURE,
            false => code,
        }
    }
}

fn dates_of(time: &RecordedTime) -> Option<(u64, u64)> {
    match *time {
        RecordedTime::Dates(start_ns, end_ns) => Some((start_ns, end_ns)),
        RecordedTime::Length(_) => None,
    }
}

/// Says that a file is left out, which names the file.
fn report_left_out(error: ReadError) {
    let error = anyhow::Error::from(error);
    log::error!("{error:#}; the report is about the other recordings");
}

impl RecordingFile {
    /// Returns the host.
    pub(super) fn host(&self) -> RecordedHost {
        self.origin.recorded_host()
    }
}

impl SeveralRecordings {
    /// Reads the metadata of all recordings. A file that cannot be read is left out with a message.
    ///
    /// # Errors
    /// When a file is no recording, when none can be read, or when the recordings are of different architectures.
    pub(super) fn open(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut files: Vec<RecordingFile> = Vec::new();
        let mut exit_formats: Vec<Format> = Vec::new();
        let names = |format: &Format| ReasonNames::new(Some(format)).all();
        let mut has_failed = false;
        for path in paths {
            let recording = match Recording::open(path) {
                Ok(recording) => recording,
                // The last error, if there is no other file to report on.
                Err(error) if files.is_empty() && Some(path) == paths.last() => {
                    return Err(error.into());
                }
                // What does not exist or is no recording was named by mistake.
                Err(error) if is_unsuitable_recording(&error) => return Err(error.into()),
                Err(error) => {
                    report_left_out(error);
                    has_failed = true;
                    continue;
                }
            };
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
            times: Vec::new(),
            times_of_hosts: RecordedTimes::default(),
            processes: BTreeSet::new(),
            has_failed,
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

    /// Leaves out a recording that could not be read to its end, with a message.
    ///
    /// # Errors
    /// Any other error.
    pub(super) fn leave_out(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        let error: ReadError = error.downcast()?;
        report_left_out(error);
        self.has_failed = true;
        Ok(())
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
        let recorded = |(start_ns, end_ns): (u64, u64)| match wall_offset_ns {
            Some(offset_ns) => RecordedTime::Dates(
                start_ns.wrapping_add(offset_ns),
                end_ns.wrapping_add(offset_ns),
            ),
            None => RecordedTime::Length(end_ns.saturating_sub(start_ns)),
        };
        let time = summary.period_ns.map(recorded);
        if let Some(time) = time {
            self.times_of_hosts.add(&file.host(), time);
        }
        self.times.push(time);
        true
    }

    /// Describes the report on all recordings.
    ///
    /// # Errors
    /// When no recording has events in the requested range, or a selected VM or process occurs in none.
    pub(super) fn finish(
        self,
        target: &TargetArgs,
        range: &RangeArgs,
        selection: SelectedBy,
    ) -> anyhow::Result<SeveralRead> {
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
        let times = self.times.iter().flatten();
        let dates: Option<Vec<_>> = times.clone().map(dates_of).collect();
        let start_ns = dates.iter().flatten().map(|it| it.0).min();
        let end_ns = dates.iter().flatten().map(|it| it.1).max();
        let without_dates_ns = (0, self.times_of_hosts.of_all_hosts());
        let has_events = times.count() > 0;
        let times_ns = has_events.then(|| start_ns.zip(end_ns).unwrap_or(without_dates_ns));
        let origin = ReportOrigin {
            header: OutputHeader {
                host: common(|it| &it.host),
                kernel: common(|it| &it.kernel),
                ..OutputHeader::default()
            },
            wall_offset_ns: dates.is_some().then_some(0),
            vcpus_from_thread_names: self
                .files
                .iter()
                .any(|it| it.origin.vcpus_from_thread_names),
            inputs: self.inputs,
            ..ReportOrigin::new(selection)
        };
        Ok(SeveralRead {
            origin,
            times_ns,
            times_of_hosts: self.times_of_hosts,
            has_failed: self.has_failed,
        })
    }

    /// Warns about recordings of one host at the same time: they may contain the same events.
    fn warn_of_overlaps(&self) {
        let mut all: Vec<_> = self
            .inputs
            .iter()
            .zip(&self.times)
            .filter_map(|(input, times)| {
                Some((
                    input.host.as_ref()?,
                    dates_of(times.as_ref()?)?,
                    &input.path,
                ))
            })
            .collect();
        all.sort();
        let mut overlaps = Warnings::default();
        // The recording with the latest end so far: its host, end and path.
        let mut latest: Option<(&String, u64, &String)> = None;
        for (host, (start_ns, end_ns), path) in all {
            let of_host = latest.filter(|it| it.0 == host);
            if let Some((_, _, other)) = of_host.filter(|it| start_ns < it.1) {
                overlaps.warn(|| format!("{other} and {path} are of the host {host} at the same time: events that are in both are counted twice"));
            }
            if of_host.is_none_or(|it| it.1 < end_ns) {
                latest = Some((host, end_ns, path));
            }
        }
        overlaps.finish(|more| {
            let files = plural(more, "more recording");
            format!("at the same time as another recording of the host, and counted twice: {files}")
        });
    }
}
