//! Describes the origin of reports: this host, or the host of a recording.

use std::path::Path;

use crate::{
    host::{self, clock},
    recording::Metadata,
    view::{ReportOrigin, SelectedBy},
};

/// Describes a measurement of this host.
pub(super) fn of_host(selection: SelectedBy) -> ReportOrigin {
    ReportOrigin {
        host: Some(host::machine::hostname()),
        boot_id: host::machine::boot_id(Path::new("/")),
        kernel: Some(host::machine::release()),
        wall_offset_ns: Some(clock::real_offset_ns()),
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
        host: metadata.hostname.clone(),
        kernel: metadata.release.clone(),
        input: Some(path.display().to_string()),
        wall_offset_ns: metadata.wall_offset_ns(),
        ..ReportOrigin::new(selection)
    }
}
