//! Describes the origin of reports: this host, or the host of a recording.

use std::path::Path;

use crate::{
    host::{self, clock},
    recording::Metadata,
    view::{ReportOrigin, SelectedBy},
};

/// Describes a measurement of this host.
pub(super) fn of_host(selection: SelectedBy, command: Option<String>) -> ReportOrigin {
    ReportOrigin {
        host: known_name(Some(host::machine::hostname())),
        boot_id: host::machine::boot_id(Path::new("/")),
        kernel: Some(host::machine::release()),
        wall_offset_ns: Some(clock::real_offset_ns()),
        command,
        ..ReportOrigin::new(selection)
    }
}

/// Describes a recording.
pub(super) fn of_recording(
    path: &Path,
    metadata: &Metadata,
    selection: SelectedBy,
) -> ReportOrigin {
    ReportOrigin {
        host: known_name(metadata.hostname.clone()),
        boot_id: metadata.boot_id.clone(),
        kernel: metadata.release.clone(),
        input: Some(path.display().to_string()),
        wall_offset_ns: metadata.wall_offset_ns(),
        ..ReportOrigin::new(selection)
    }
}

/// Returns the name of a host; `None` for the name that the kernel has until one is set.
pub(super) fn known_name(name: Option<String>) -> Option<String> {
    name.filter(|name| !matches!(name.as_str(), "" | "(none)"))
}
