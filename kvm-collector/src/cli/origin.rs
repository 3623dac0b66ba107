//! Describes the origin of reports: this host, or the host of a recording.

use std::path::Path;

use super::record;
use crate::{
    host::{self, clock},
    source::Recording,
    timing::vcpus_are_named,
    tracefs::Format,
    view::{OutputHeader, ReportOrigin, SelectedBy},
};

/// Describes a measurement of this host by events with these formats.
pub(super) fn of_host<'f>(
    selection: SelectedBy,
    command: Option<String>,
    formats: impl IntoIterator<Item = &'f Format>,
) -> ReportOrigin {
    ReportOrigin {
        header: header_of_host(),
        wall_offset_ns: Some(clock::real_offset_ns()),
        command,
        vcpus_from_thread_names: vcpus_are_named(formats),
        ..ReportOrigin::new(selection)
    }
}

/// Describes this host.
pub(super) fn header_of_host() -> OutputHeader {
    OutputHeader {
        host: known_name(Some(host::machine::hostname())),
        boot_id: host::machine::boot_id(Path::new("/")),
        kernel: Some(host::machine::release()),
        ..OutputHeader::default()
    }
}

/// Describes a recording.
pub(super) fn of_recording(
    path: &Path,
    recording: &Recording,
    selection: SelectedBy,
) -> ReportOrigin {
    let metadata = recording.metadata();
    ReportOrigin {
        header: OutputHeader {
            host: known_name(metadata.hostname.clone()),
            boot_id: metadata.boot_id.clone(),
            kernel: metadata.release.clone(),
            ..OutputHeader::default()
        },
        input: Some(path.display().to_string()),
        recording_selection: record::selection_of(metadata),
        wall_offset_ns: metadata.wall_offset_ns(),
        vcpus_from_thread_names: vcpus_are_named(recording.formats()),
        ..ReportOrigin::new(selection)
    }
}

/// Returns the name of a host; `None` for the name that the kernel has until one is set.
pub(super) fn known_name(name: Option<String>) -> Option<String> {
    name.filter(|name| !matches!(name.as_str(), "" | "(none)"))
}
