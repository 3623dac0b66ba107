//! Recordings of real VMs, from `fixtures/recordings`. Each was made with `record --preempt` and has one VM.

use std::{fs, path::Path};

/// Names of the recordings.
const NAMES: [&str; 4] = [
    "svm-6.1-db-1",
    "svm-6.1-web-1",
    "svm-6.12-db-1",
    "svm-6.12-web-1",
];

/// More than the size of each recording.
const MAX_RECORDING_BYTES: usize = 1 << 20;

/// Returns the file names of the recordings.
pub(crate) fn file_names() -> [String; 4] {
    NAMES.map(|name| format!("{name}.data"))
}

/// Writes the recordings to a folder.
pub(crate) fn write_to(folder: &Path) {
    for (name, file) in NAMES.iter().zip(file_names()) {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/fixtures/recordings/{name}.data.zst"));
        let packed = fs::read(packed).expect("a fixture");
        let mut recording = Vec::with_capacity(MAX_RECORDING_BYTES);
        zstd_safe::decompress(&mut recording, &packed).expect("a compressed recording");
        fs::write(folder.join(file), recording).expect("a recording");
    }
}
