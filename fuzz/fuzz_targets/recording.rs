//! Fuzz target for the reader of recordings: `cargo +nightly fuzz run recording`.
//!
//! The input is a perf.data file. Use small recordings of `kvm-collector record` and `perf record` as
//! seeds: complete and interrupted ones, compressed and uncompressed ones. The target counts, times and
//! prints the events and builds a timeline from them, in intervals. All of these must terminate, and
//! their results must agree.
#![no_main]

#[path = "../../kvm-collector/tests/consistency/all_views.rs"]
mod all_views;

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
};

use kvm_collector::{recording::Reader, source::Recording};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // A file in memory. It is unlinked at once, so that a crash leaves nothing behind.
    let path = format!("/dev/shm/kvm-collector-fuzz-{}", std::process::id());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("cannot create a file in /dev/shm");
    let _ = std::fs::remove_file(&path);
    file.write_all(data)
        .and_then(|()| file.rewind())
        .expect("cannot write to /dev/shm");
    if let Ok(reader) = Reader::new(file, Path::new("fuzzed")) {
        all_views::run_all_views(Recording::new(reader));
    }
});
