//! A recording as a source: emits its events in time order.

mod attr_selection;
mod clock;
mod later_names;
mod names;
mod period;
mod playback;
mod player;
mod prefetch;
mod recording_files;
mod scan;
mod time_limits;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{
    attr_selection::AttrSelection, later_names::LaterNames, player::Player,
    prefetch::with_prefetch, recording_files::RecordingFiles, scan::Scanner,
};
pub use self::{
    names::RecordedNames,
    playback::{PlaybackContext, PlaybackOptions, RecordedProcess, RecordingSummary},
    time_limits::{RecordingTime, TimeLimits},
};
use crate::{
    model::{StreamItem, VmName, capacity::MAX_KNOWN_TASKS},
    recording::{Chunks, Metadata, ReadError, Reader, can_be_read_again},
    timing::Attribution,
    tracefs::{EventName, Format},
};

/// A recording that can be played.
#[derive(Debug)]
pub struct Recording {
    /// The path of the recording, for messages.
    path: PathBuf,
    metadata: Metadata,
    /// The records of each file of the recording.
    files: Vec<Chunks>,
    /// The formats of all recorded events, sorted by name.
    formats: Vec<Format>,
    /// The selection for each attr.
    attrs: Vec<AttrSelection>,
    only_counted: Vec<EventName>,
    later_names: LaterNames,
    identifies_vcpus: bool,
    identifies_vms: bool,
}

impl Recording {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// [`ReadError`] if the file cannot be read or is no recording.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let mut recording = Self::new(Reader::open(path)?);
        if can_be_read_again(path) {
            recording.later_names = LaterNames::new(path, read_names);
        }
        Ok(recording)
    }

    /// Creates a recording from a reader. It cannot be read again, so VMs have no name until the recording names them.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let metadata = reader.metadata();
        let mut formats: Vec<Format> = Vec::new();
        let types = Arc::new(metadata.kernel_types.clone());
        for (system, text) in &metadata.formats {
            match Format::parse_with_types(system, text, types.clone()) {
                Ok(format) => formats.push(format),
                Err(error) => log::warn!(
                    "{}: cannot parse the format of an event of {system}; its events are omitted: {error}",
                    reader.path().display()
                ),
            }
        }
        let attrs_of = |format: &Format| {
            let id = Some(u64::from(format.id));
            let attrs = metadata.attrs.iter();
            attrs.filter(move |attr| attr.tracepoint == id)
        };
        formats.retain(|it| attrs_of(it).next().is_some());
        formats.sort_by_key(Format::event_name);
        formats.dedup_by_key(|it| it.id);
        // These have no samples to read.
        let is_only_counted = |it: &mut Format| attrs_of(it).all(|attr| attr.is_only_counted);
        let only_counted = formats.extract_if(.., is_only_counted);
        let only_counted = only_counted.map(|it| it.event_name()).collect();
        let path = reader.path().to_owned();
        let (metadata, files) = reader.into_parts();
        Self {
            attrs: vec![AttrSelection::default(); metadata.attrs.len()],
            path,
            metadata,
            files,
            formats,
            only_counted,
            later_names: LaterNames::default(),
            identifies_vcpus: false,
            identifies_vms: false,
        }
    }

    /// Returns the events that perf counted without recording them.
    #[must_use]
    pub fn only_counted(&self) -> &[EventName] {
        &self.only_counted
    }

    /// Returns the metadata of the recording.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the formats of all recorded events, sorted by name.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// Selects the events to emit. The slot of an event is its index in `selected`.
    pub fn select_events(&mut self, selected: &[Format]) {
        let attrs = self.metadata.attrs.iter();
        let selection = |attr| AttrSelection::new(attr, &self.formats, selected);
        self.attrs = attrs.map(selection).collect();
    }

    /// Identifies the vCPU of every event, for [`PlaybackContext::vcpu`]. This reads events that are not selected.
    pub fn identify_vcpus(&mut self) {
        self.identifies_vcpus = true;
    }

    /// Identifies the processes that are VMs, for [`RecordedNames::is_vm`] and [`RecordingSummary::processes`]. This reads events that are not selected. A
    /// selection by process does the same.
    pub fn identify_vms(&mut self) {
        self.identifies_vms = true;
    }

    /// Returns whether only a sample of these events is recorded. Each recorded event then stands
    /// for several.
    #[must_use]
    pub fn is_sampled(&self, formats: &[Format]) -> bool {
        let mut attrs = self.metadata.attrs.iter();
        attrs.any(|attr| {
            let is_event = |format: &Format| Some(u64::from(format.id)) == attr.tracepoint;
            attr.is_sampled && formats.iter().any(is_event)
        })
    }

    /// Passes the selected events and the other items to `each`, in time order.
    ///
    /// # Errors
    /// [`ReadError`] if the recording cannot be read, or the first error of `each`.
    pub fn play<E: From<ReadError>>(
        self,
        options: &PlaybackOptions,
        mut each: impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        let format_of = |it: &AttrSelection| it.format.and_then(|index| self.formats.get(index));
        let mut attribution = Attribution::new(
            self.attrs.iter().map(|it| {
                // vCPU threads are also identified by events that are not selected.
                let format = format_of(it);
                format.filter(|format| {
                    it.slot.is_some() || Attribution::identifies_vcpu_threads(format)
                })
            }),
            options.selection.clone(),
        );
        if self.identifies_vcpus {
            attribution.learn_vcpu_threads();
        }
        let identifies_vms = self.identifies_vms || options.selection.is_by_process();
        let has_vcpu_events = self.attrs.iter().any(|it| it.is_vcpu_thread_event);
        let tells_vms = |it: &AttrSelection| match has_vcpu_events {
            true => it.is_vcpu_thread_event,
            false => it.is_kvm_event,
        };
        let attrs = self.attrs.iter().enumerate();
        let min_record_bytes = attrs
            .map(|(index, it)| {
                let is_needed = it.slot.is_some()
                    || attribution.needs_unselected(index)
                    || identifies_vms && tells_vms(it);
                is_needed.then_some(it.min_bytes)
            })
            .collect();
        let keeps_records =
            !options.without_raw || attribution.needs_records() || self.is_sampled(&self.formats);
        let scanner = Scanner::new(&self.metadata, min_record_bytes, keeps_records);
        let mut names = RecordedNames::new(&self.metadata.vm_names, self.later_names);
        if identifies_vms {
            names.identify_vms();
        }
        let player = Player::new(
            &self.metadata,
            &self.attrs,
            attribution,
            names,
            (self.identifies_vcpus, identifies_vms),
            options,
        );
        // Pipes are not prefetched: a thread that waits for their data could not be stopped.
        let is_pipe = self.files.iter().any(|it| !it.is_file());
        let mut files = RecordingFiles::new(self.files, &scanner);
        if is_pipe {
            return player.play(&mut || files.next(), &mut each);
        }
        with_prefetch(
            &self.path,
            || files.next(),
            |next| player.play(next, &mut each),
        )
    }
}

/// Returns the names of processes that are known at the end of a recording.
fn read_names(path: &Path) -> HashMap<u32, VmName> {
    // A name that follows the end of an unnamed process is that of another process with the same number.
    let mut unnamed = HashSet::new();
    let played = Reader::open(path).and_then(|reader| {
        let mut recording = Recording::new(reader);
        recording.select_events(&[]);
        recording.play(&PlaybackOptions::default(), |item, context| {
            if let StreamItem::ThreadEnd { tid } = item
                && context.names.known_vm_name(*tid).is_none()
                && unnamed.len() < MAX_KNOWN_TASKS
            {
                unnamed.insert(*tid);
            }
            Ok::<_, ReadError>(())
        })
    });
    // Whoever needs a name reads the recording too, and reports the error.
    let mut names = played.map_or_else(|_| HashMap::new(), |it| it.names.all_vm_names());
    names.retain(|tgid, _| !unnamed.contains(tgid));
    names
}
