//! Recordings, written and read without a kernel.

mod damage;
mod files;
mod kernel_types;
mod perf_files;
mod playback;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod round_trip;
mod sample_recording;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;
