//! A recording that nobody wrote: `cargo +nightly fuzz run recording`.
//!
//! The input is the file. Good seeds are small recordings, finished and killed, compressed and not, of `kvm-collector record` and of `perf record`.
//! Whatever it says is counted, timed, printed by exit and put on a timeline, in intervals; all of that has to end and to agree.
#![no_main]

#[path = "../../kvm-collector/tests/engine/drive.rs"]
mod drive;

use std::{fs::File, io::{Seek as _, Write as _}, path::Path};

use kvm_collector::{recording::Reader, source::Recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // In memory: what the name names is gone at once.
    let path = format!("/dev/shm/kvm-collector-fuzz-{}", std::process::id());
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    let _ = std::fs::remove_file(&path);
    file.write_all(data).and_then(|()| file.rewind()).expect("room");
    if let Ok(reader) = Reader::new(file, Path::new("fuzzed")) {
        drive::drive(Recording::new(reader));
    }
});
