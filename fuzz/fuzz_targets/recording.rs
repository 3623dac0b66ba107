//! A recording that nobody wrote: `cargo +nightly fuzz run recording`.
//!
//! The input is the file. Good seeds are small recordings, finished and killed, compressed and not, of `kvm-collector record` and of `perf record`.
#![no_main]

use std::{fs::File, io::{Seek as _, Write as _}, path::Path};

use kvm_collector::{recording::{ReadError, Reader}, source::{Played, Recording, Selection}};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // In memory: what the name names is gone at once.
    let path = format!("/dev/shm/kvm-collector-fuzz-{}", std::process::id());
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    let _ = std::fs::remove_file(&path);
    file.write_all(data).and_then(|()| file.rewind()).expect("room");
    let Ok(reader) = Reader::new(file, Path::new("fuzzed")) else { return };
    let mut recording = Recording::new(reader);
    let formats = recording.formats().to_vec();
    recording.choose(&formats);
    let mut line = Vec::new();
    let _ = recording.play(&Selection::default(), |played, names| {
        if let Played::Event(event) = played {
            line.clear();
            formats[event.slot].print(event.raw, &mut line);
            let _ = names.comm(event.tid);
        }
        Ok::<_, ReadError>(true)
    });
});
