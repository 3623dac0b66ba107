//! Recordings of real VMs, from `fixtures/recordings`.

use std::{fs, path::Path, sync::Once};

use crate::recording_folder::recording_folder;

/// Names of the recordings.
const NAMES: [&str; 4] = [
    "svm-6.1-db-1",
    "svm-6.1-web-1",
    "svm-6.12-db-1",
    "svm-6.12-web-1",
];

/// More than the size of each recording.
const MAX_RECORDING_BYTES: usize = 1 << 20;

/// Writes the recordings to the folder. Returns their file names.
pub(crate) fn real_recordings() -> [String; 4] {
    static UNPACKED: Once = Once::new();
    UNPACKED.call_once(|| {
        for name in NAMES {
            let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/fixtures/recordings/{name}.data.zst"));
            let packed = fs::read(packed).expect("a fixture");
            let mut recording = Vec::with_capacity(MAX_RECORDING_BYTES);
            zstd_safe::decompress(&mut recording, &packed).expect("a compressed recording");
            fs::write(recording_folder().join(file_name(name)), recording).expect("a recording");
        }
    });
    NAMES.map(file_name)
}

fn file_name(name: &str) -> String {
    format!("{name}.data")
}
