//! Recordings, written and read without a kernel.

mod damage;
mod files;
mod playback;
mod round_trip;
mod sample_recording;
