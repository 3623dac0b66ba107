//! All views of a recording are consistent: they agree with each other, with every selection, and on incomplete and
//! damaged recordings.

mod all_views;
mod collector;
mod intervals;
mod late_names;
mod limits;
mod losses;
mod named_vcpus;
mod periods;
mod random_streams;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod recording_file;
mod selection;
mod several;
mod several_hosts;
mod streams;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;
mod threads;
mod time_leaps;
mod time_ranges;
mod top;
