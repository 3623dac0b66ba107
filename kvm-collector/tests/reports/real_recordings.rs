//! Recordings of real VMs in the folder of the reports.

#[path = "../common/real_recordings.rs"]
mod fixtures;

use std::sync::Once;

use crate::recording_folder::recording_folder;

/// Writes the recordings to the folder. Returns their file names.
pub(crate) fn real_recordings() -> [String; 4] {
    static UNPACKED: Once = Once::new();
    UNPACKED.call_once(|| fixtures::write_to(recording_folder()));
    fixtures::file_names()
}
